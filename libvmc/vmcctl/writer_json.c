// SPDX-License-Identifier: LGPL-2.1-or-later
/* One JSON object, indented by two blanks, or all in one line. Labels and titles are not its business. */
#include "writer_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct json_writer {
	struct writer w;
	unsigned int depth;
	bool first;	/* nothing written yet at this depth */
	bool line;	/* all in one */
};

static struct json_writer *json(struct writer *w)
{
	return (struct json_writer *)w;
}

static void put_text(FILE *out, const char *text)
{
	const unsigned char *c;

	fputc('"', out);
	for (c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20 || *c == 0x7f)
			fprintf(out, "\\u%04x", *c);
		else if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)	/* C1 controls */
			fprintf(out, "\\u%04x", *++c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void new_line(struct json_writer *j)
{
	fputs(j->first ? "" : ",", j->w.out);
	if (!j->line)
		fprintf(j->w.out, "\n%*s", (int)j->depth * 2, "");
	else if (!j->first)
		fputc(' ', j->w.out);
	j->first = false;
}

/* What comes before a value: the comma, the line, its key. */
static void put_key(struct json_writer *j, const char *key)
{
	new_line(j);
	if (key) {
		put_text(j->w.out, key);
		fputs(": ", j->w.out);
	}
}

static void open_level(struct json_writer *j, const char *key, char bracket)
{
	put_key(j, key);
	fputc(bracket, j->w.out);
	j->depth++;
	j->first = true;
}

static void close_level(struct json_writer *j, char bracket)
{
	bool empty = j->first;

	j->depth--;
	j->first = true;
	if (!empty && !j->line)
		new_line(j);
	fputc(bracket, j->w.out);
	j->first = false;
}

static void json_string(struct writer *w, const char *key, const char *label, const char *value)
{
	(void)label;
	put_key(json(w), key);
	put_text(w->out, value);
}

static void json_strings(struct writer *w, const char *key, const char *label,
			 const char *const *values)
{
	(void)label;
	put_key(json(w), key);
	fputc('[', w->out);
	for (; *values; values++) {
		put_text(w->out, *values);
		if (values[1])
			fputs(", ", w->out);
	}
	fputc(']', w->out);
}

static void json_number(struct writer *w, const char *key, const char *label, uint64_t value,
			enum writer_kind kind)
{
	(void)label;
	(void)kind;
	put_key(json(w), key);
	fprintf(w->out, "%" PRIu64, value);
}

static void json_boolean(struct writer *w, const char *key, const char *label, bool value)
{
	(void)label;
	put_key(json(w), key);
	fputs(value ? "true" : "false", w->out);
}

static void json_open_object(struct writer *w, const char *key, const char *title)
{
	(void)title;
	open_level(json(w), key, '{');
}

static void json_close_object(struct writer *w)
{
	close_level(json(w), '}');
}

static void json_open_list(struct writer *w, const char *key, const char *title, const char *none,
			   bool blocks)
{
	(void)blocks;
	(void)title;
	(void)none;
	open_level(json(w), key, '[');
}

static void json_close_list(struct writer *w)
{
	close_level(json(w), ']');
}

static void json_open_row(struct writer *w)
{
	open_level(json(w), NULL, '{');
}

static int json_end(struct writer *w)
{
	int error = w->error;

	close_level(json(w), '}');
	fputc('\n', w->out);
	if (fflush(w->out) || ferror(w->out))
		error = error ? error : -EIO;
	free(w);
	return error;
}

static const struct writer_ops json_ops = {
	.string = json_string,
	.strings = json_strings,
	.number = json_number,
	.boolean = json_boolean,
	.open_object = json_open_object,
	.close_object = json_close_object,
	.open_list = json_open_list,
	.close_list = json_close_list,
	.open_row = json_open_row,
	.close_row = json_close_object,
	.end = json_end,
};

static struct writer *json_new(FILE *out, bool line)
{
	struct json_writer *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->w.ops = &json_ops;
	j->w.out = out;
	fputc('{', out);
	j->depth = 1;
	j->first = true;
	j->line = line;
	return &j->w;
}

struct writer *writer_json_new(FILE *out)
{
	return json_new(out, false);
}

struct writer *writer_json_line_new(FILE *out)
{
	return json_new(out, true);
}
