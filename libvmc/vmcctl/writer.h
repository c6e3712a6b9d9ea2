/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Output of vmcctl. A command describes its data once; the writer makes JSON
 * or text of it, so that the two cannot drift apart.
 *
 * Each value has a key, its name in JSON, and a label, its heading in text;
 * without a label it appears in JSON only. Text from guests is made safe for a
 * terminal. In text
 *   - values outside of a table are lines "Label: value", or sentences,
 *   - a list is a table; objects inside of a row add columns to it,
 *   - a column that is empty in every row is left out,
 *   - a list of blocks has lines for each row; objects inside of a row stand
 *     side by side and have to have the same labels.
 */
#ifndef VMCCTL_WRITER_H
#define VMCCTL_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct writer;

/* All NULL without memory. @out stays the caller's. */
struct writer *writer_text_new(FILE *out);
struct writer *writer_json_new(FILE *out);
struct writer *writer_json_line_new(FILE *out);	/* without line breaks but the last */
/* Ends the output. Returns 0, or -errno if something could not be written or stored. */
int writer_end(struct writer *w);

void writer_string(struct writer *w, const char *key, const char *label, const char *value);
/* An array in JSON, separated by blanks in text; ended by NULL. */
void writer_strings(struct writer *w, const char *key, const char *label,
		    const char *const *values);
void writer_number(struct writer *w, const char *key, const char *label, uint64_t value);
void writer_bytes(struct writer *w, const char *key, const char *label, uint64_t value);
void writer_seconds(struct writer *w, const char *key, const char *label, uint64_t value);
void writer_bool(struct writer *w, const char *key, const char *label, bool value);

/* A line of its own in text, outside of a table; nothing in JSON, which has the values. */
void writer_sentence(struct writer *w, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Is this a kind that leaves sentences out? */
bool writer_has_values(const struct writer *w);

/* @title is a heading in text, NULL for none. */
void writer_open_object(struct writer *w, const char *key, const char *title);
void writer_close_object(struct writer *w);
/* @none is what text says instead of a table without rows. */
void writer_open_list(struct writer *w, const char *key, const char *title, const char *none);
void writer_open_blocks(struct writer *w, const char *key, const char *title, const char *none);
void writer_close_list(struct writer *w);
void writer_open_row(struct writer *w);
void writer_close_row(struct writer *w);

/* While false, text shows numbers as "-": nobody reported them. */
void writer_known(struct writer *w, bool known);

/* Writes @bytes like "512 B" or "1.5 MiB" into @buf of 16 bytes. */
void writer_human_bytes(char *buf, uint64_t bytes);
/* Writes @seconds like "42 s", "3 min 20 s" or "2 d 5 h" into @buf of 32 bytes. */
void writer_human_seconds(char *buf, uint64_t seconds);

#endif
