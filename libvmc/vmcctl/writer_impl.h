/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a kind of writer provides; only for writer*.c. */
#ifndef VMCCTL_WRITER_IMPL_H
#define VMCCTL_WRITER_IMPL_H

#include "writer.h"

enum writer_kind {
	WRITER_NUMBER,
	WRITER_BYTES,
	WRITER_SECONDS,
};

struct writer_ops {
	void (*string)(struct writer *w, const char *key, const char *label, const char *value);
	void (*strings)(struct writer *w, const char *key, const char *label,
			const char *const *values);
	void (*number)(struct writer *w, const char *key, const char *label, uint64_t value,
		       enum writer_kind kind);
	void (*boolean)(struct writer *w, const char *key, const char *label, bool value);
	/* NULL: has none */
	void (*sentence)(struct writer *w, const char *text);
	void (*open_object)(struct writer *w, const char *key, const char *title);
	void (*close_object)(struct writer *w);
	void (*open_list)(struct writer *w, const char *key, const char *title, const char *none,
			  bool blocks);
	void (*close_list)(struct writer *w);
	void (*open_row)(struct writer *w);
	void (*close_row)(struct writer *w);
	int (*end)(struct writer *w);	/* frees it, too */
};

/* The beginning of each kind's own struct. */
struct writer {
	const struct writer_ops *ops;
	FILE *out;
	bool unknown;
	int error;	/* the first -errno */
};

#endif
