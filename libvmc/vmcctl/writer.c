// SPDX-License-Identifier: LGPL-2.1-or-later
#include "writer_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

void writer_string(struct writer *w, const char *key, const char *label, const char *value)
{
	w->ops->string(w, key, label, value);
}

void writer_strings(struct writer *w, const char *key, const char *label,
		    const char *const *values)
{
	w->ops->strings(w, key, label, values);
}

void writer_number(struct writer *w, const char *key, const char *label, uint64_t value)
{
	w->ops->number(w, key, label, value, WRITER_NUMBER);
}

void writer_bytes(struct writer *w, const char *key, const char *label, uint64_t value)
{
	w->ops->number(w, key, label, value, WRITER_BYTES);
}

void writer_seconds(struct writer *w, const char *key, const char *label, uint64_t value)
{
	w->ops->number(w, key, label, value, WRITER_SECONDS);
}

void writer_bool(struct writer *w, const char *key, const char *label, bool value)
{
	w->ops->boolean(w, key, label, value);
}

bool writer_has_values(const struct writer *w)
{
	return !w->ops->sentence;
}

void writer_sentence(struct writer *w, const char *format, ...)
{
	va_list args;
	char *text;
	int len;

	if (!w->ops->sentence)
		return;
	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0) {
		w->error = w->error ? w->error : -ENOMEM;
		return;
	}
	w->ops->sentence(w, text);
	free(text);
}

void writer_open_object(struct writer *w, const char *key, const char *title)
{
	w->ops->open_object(w, key, title);
}

void writer_close_object(struct writer *w)
{
	w->ops->close_object(w);
}

void writer_open_list(struct writer *w, const char *key, const char *title, const char *none)
{
	w->ops->open_list(w, key, title, none, false);
}

void writer_open_blocks(struct writer *w, const char *key, const char *title, const char *none)
{
	w->ops->open_list(w, key, title, none, true);
}

void writer_close_list(struct writer *w)
{
	w->ops->close_list(w);
}

void writer_open_row(struct writer *w)
{
	w->ops->open_row(w);
}

void writer_close_row(struct writer *w)
{
	w->ops->close_row(w);
}

void writer_known(struct writer *w, bool known)
{
	w->unknown = !known;
}

int writer_end(struct writer *w)
{
	return w->ops->end(w);
}

void writer_human_bytes(char *buf, uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	uint64_t whole = bytes, tenths = 0;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(buf, 16, "%" PRIu64 " B", bytes);
		return;
	}
	while (whole >= 1024) {
		tenths = whole % 1024 * 10 / 1024;
		whole /= 1024;
		unit++;
	}
	snprintf(buf, 16, "%" PRIu64 ".%" PRIu64 " %ciB", whole, tenths, units[unit - 1]);
}

void writer_human_seconds(char *buf, uint64_t seconds)
{
	uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

	if (!minutes)
		snprintf(buf, 32, "%" PRIu64 " s", seconds);
	else if (!hours)
		snprintf(buf, 32, "%" PRIu64 " min %" PRIu64 " s", minutes, seconds % 60);
	else if (!days)
		snprintf(buf, 32, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
	else
		snprintf(buf, 32, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
}
