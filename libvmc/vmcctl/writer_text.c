// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * For people: lines "Label: value" and aligned tables. Both wait in memory
 * until all of them are known and their widths with them.
 */
#include "writer_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define COLUMNS_MAX	24u
#define GAP		2	/* blanks between columns */

struct cell {
	char *text;	/* NULL: empty */
	int width;
};

struct column {
	const char *label;
	bool right;	/* numbers */
};

struct text_writer {
	struct writer w;
	bool begun;			/* something was printed: a title starts after a blank line */
	/* The lines or the table that is growing: lines are a table of two columns. */
	bool in_table, in_row;
	/* A list of blocks: objects of a row are columns beside each other. */
	bool in_blocks, first_block;
	size_t object, object_start, object_row;
	const char *none;
	struct column columns[COLUMNS_MAX];
	size_t nr_columns;
	struct cell *cells;		/* rows of COLUMNS_MAX */
	size_t nr_rows, max_rows;
	size_t at;			/* column of the next value in this row */
};

static struct text_writer *text(struct writer *w)
{
	return (struct text_writer *)w;
}

static void failed(struct text_writer *t, int error)
{
	if (!t->w.error)
		t->w.error = error;
}

/* Marks that change the direction of writing: a name could look like another one. */
static bool reorders(wchar_t wc)
{
	return wc == 0x61c || wc == 0x200e || wc == 0x200f || (wc >= 0x202a && wc <= 0x202e) ||
	       (wc >= 0x2066 && wc <= 0x2069);
}

/* Control characters, C1 ones too, become '?': a name must not drive the terminal. */
static char *safe_text(const char *from, int *width)
{
	size_t len = strlen(from);
	char *to = malloc(len + 1), *at = to;
	mbstate_t state = { 0 };

	if (!to)
		return NULL;
	*width = 0;
	while (len) {
		wchar_t wc;
		size_t n = mbrtowc(&wc, from, len, &state);
		int cells;

		if (n == (size_t)-1 || n == (size_t)-2 || n == 0) {
			memset(&state, 0, sizeof(state));
			n = 1;
			cells = -1;
		} else {
			cells = reorders(wc) ? -1 : wcwidth(wc);
		}
		if (cells < 0) {
			*at++ = '?';
			*width += 1;
		} else {
			memcpy(at, from, n);
			at += n;
			*width += cells;
		}
		from += n;
		len -= n;
	}
	*at = '\0';
	return to;
}

static struct cell *new_row(struct text_writer *t)
{
	struct cell *row;

	if (t->nr_rows == t->max_rows) {
		size_t max = t->max_rows ? t->max_rows * 2 : 16;
		struct cell *cells = reallocarray(t->cells, max, sizeof(*cells) * COLUMNS_MAX);

		if (!cells) {
			failed(t, -ENOMEM);
			return NULL;
		}
		t->cells = cells;
		t->max_rows = max;
	}
	row = t->cells + t->nr_rows++ * COLUMNS_MAX;
	memset(row, 0, sizeof(*row) * COLUMNS_MAX);
	return row;
}

static void set(struct text_writer *t, struct cell *cell, const char *value)
{
	if (!*value)
		return;
	cell->text = safe_text(value, &cell->width);
	if (!cell->text)
		failed(t, -ENOMEM);
}

static void add(struct writer *w, const char *label, const char *value, bool right)
{
	struct text_writer *t = text(w);
	struct cell *row;
	char line[64];

	if (!label)
		return;
	if (t->in_table) {
		if (!t->in_row || !t->nr_rows || t->at == COLUMNS_MAX)
			return;
		if (t->at == t->nr_columns)
			t->columns[t->nr_columns++] = (struct column){ label, right };
		set(t, t->cells + (t->nr_rows - 1) * COLUMNS_MAX + t->at++, value);
		return;
	}
	if (t->object > 1) {
		size_t at = t->object_start + t->object_row++;

		if (at < t->nr_rows && t->object + 1 < COLUMNS_MAX)
			set(t, t->cells + at * COLUMNS_MAX + t->object, value);
		return;
	}
	row = new_row(t);
	if (!row)
		return;
	snprintf(line, sizeof(line), "%s:", label);
	set(t, row, line);
	set(t, row + 1, *value ? value : "-");
}

static void put(const struct text_writer *t, const char *value, int width, int room, bool right,
		bool last)
{
	int pad = room > width ? room - width : 0;

	fprintf(t->w.out, "%*s%s", right ? pad : 0, "", value);
	if (!last)
		fprintf(t->w.out, "%*s", (right ? 0 : pad) + GAP, "");
}

/* How wide each column is; 0 if it is empty in every row. Returns the last that is not. */
static size_t measure(const struct text_writer *t, int room[COLUMNS_MAX])
{
	size_t columns = t->in_table ? t->nr_columns : COLUMNS_MAX, last = 0, row, col;

	memset(room, 0, sizeof(*room) * COLUMNS_MAX);
	for (col = 0; col < columns; col++) {
		for (row = 0; row < t->nr_rows; row++) {
			const struct cell *c = t->cells + row * COLUMNS_MAX + col;

			if (c->text && c->width > room[col])
				room[col] = c->width;
		}
		if (room[col])
			last = col;
		if (t->in_table && room[col] && room[col] < (int)strlen(t->columns[col].label))
			room[col] = (int)strlen(t->columns[col].label);
	}
	return last;
}

static void put_headings(const struct text_writer *t, const int room[COLUMNS_MAX], size_t last)
{
	size_t col;

	for (col = 0; col <= last; col++) {
		const struct column *c = &t->columns[col];

		if (room[col])
			put(t, c->label, (int)strlen(c->label), room[col], c->right, col == last);
	}
	fputc('\n', t->w.out);
}

static void put_row(const struct text_writer *t, const struct cell *row,
		    const int room[COLUMNS_MAX], size_t last)
{
	size_t col;

	/* a line ends with its last value; a row of a table has "-" for what is empty */
	while (!t->in_table && last && !row[last].text)
		last--;
	for (col = 0; col <= last; col++)
		if (room[col])
			put(t, row[col].text ? row[col].text : "-",
			    row[col].text ? row[col].width : 1, room[col],
			    t->in_table && t->columns[col].right, col == last);
	fputc('\n', t->w.out);
}

/* Prints what has been gathered and forgets it. */
static void flush(struct text_writer *t)
{
	int room[COLUMNS_MAX];
	size_t last = measure(t, room), row, col;

	if (t->in_table && t->nr_rows)
		put_headings(t, room, last);
	else if (t->in_table && t->none)
		fprintf(t->w.out, "%s\n", t->none);
	for (row = 0; row < t->nr_rows; row++) {
		struct cell *cells = t->cells + row * COLUMNS_MAX;

		put_row(t, cells, room, last);
		for (col = 0; col < COLUMNS_MAX; col++)
			free(cells[col].text);
	}
	t->begun |= t->nr_rows || t->in_table;
	t->nr_rows = t->nr_columns = 0;
}

static void put_title(struct text_writer *t, const char *title)
{
	if (!title)
		return;
	fprintf(t->w.out, "%s%s\n", t->begun ? "\n" : "", title);
	t->begun = true;
}

static void text_string(struct writer *w, const char *key, const char *label, const char *value)
{
	(void)key;
	add(w, label, value, false);
}

static void text_strings(struct writer *w, const char *key, const char *label,
			 const char *const *values)
{
	char line[1024] = "";
	size_t len = 0;

	(void)key;
	for (; *values && len < sizeof(line); values++)
		len += (size_t)snprintf(line + len, sizeof(line) - len, "%s%s", len ? " " : "",
					*values);
	add(w, label, line, false);
}

static void text_number(struct writer *w, const char *key, const char *label, uint64_t value,
			enum writer_kind kind)
{
	char line[32];

	(void)key;
	if (w->unknown)
		snprintf(line, sizeof(line), "-");
	else if (kind == WRITER_BYTES)
		writer_human_bytes(line, value);
	else if (kind == WRITER_SECONDS)
		writer_human_seconds(line, value);
	else
		snprintf(line, sizeof(line), "%" PRIu64, value);
	add(w, label, line, true);
}

static void text_boolean(struct writer *w, const char *key, const char *label, bool value)
{
	(void)key;
	add(w, label, value ? "yes" : "no", false);
}

static void text_sentence(struct writer *w, const char *value)
{
	struct text_writer *t = text(w);
	int width;
	char *line;

	flush(t);
	line = safe_text(value, &width);
	if (!line) {
		failed(t, -ENOMEM);
		return;
	}
	fprintf(w->out, "%s\n", line);
	t->begun = true;
	free(line);
}

static void text_open_object(struct writer *w, const char *key, const char *title)
{
	struct text_writer *t = text(w);

	(void)key;
	if (t->in_blocks) {
		if (!t->object++)
			t->object_start = t->nr_rows;
		t->object_row = 0;
	} else if (!t->in_table) {
		flush(t);
		put_title(t, title);
	}
}

static void text_close_object(struct writer *w)
{
	if (!text(w)->in_table && !text(w)->in_blocks)
		flush(text(w));
}

static void text_open_list(struct writer *w, const char *key, const char *title, const char *none,
			   bool blocks)
{
	struct text_writer *t = text(w);

	(void)key;
	flush(t);
	put_title(t, title);
	t->in_table = !blocks;
	t->in_blocks = blocks;
	t->first_block = true;
	t->none = none;
}

static void text_close_list(struct writer *w)
{
	struct text_writer *t = text(w);

	flush(t);
	if (t->in_blocks && t->first_block && t->none)
		fprintf(w->out, "%s\n", t->none);
	t->in_table = t->in_blocks = false;
}

static void text_open_row(struct writer *w)
{
	struct text_writer *t = text(w);

	if (t->in_blocks) {
		if (!t->first_block)
			fputc('\n', w->out);
		t->first_block = false;
		return;
	}
	t->in_row = new_row(t) != NULL;
	t->at = 0;
}

static void text_close_row(struct writer *w)
{
	struct text_writer *t = text(w);

	t->in_row = false;
	t->object = 0;
	if (t->in_blocks)
		flush(t);
}

static int text_end(struct writer *w)
{
	struct text_writer *t = text(w);
	int error;

	flush(t);
	if (fflush(w->out) || ferror(w->out))
		failed(t, -EIO);
	error = w->error;
	free(t->cells);
	free(t);
	return error;
}

static const struct writer_ops text_ops = {
	.string = text_string,
	.strings = text_strings,
	.number = text_number,
	.boolean = text_boolean,
	.sentence = text_sentence,
	.open_object = text_open_object,
	.close_object = text_close_object,
	.open_list = text_open_list,
	.close_list = text_close_list,
	.open_row = text_open_row,
	.close_row = text_close_row,
	.end = text_end,
};

struct writer *writer_text_new(FILE *out)
{
	struct text_writer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->w.ops = &text_ops;
	t->w.out = out;
	return &t->w;
}
