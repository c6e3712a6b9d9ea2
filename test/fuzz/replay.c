// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs a fuzzer's entry over files, so that a corpus is a test with any
 * compiler: replay [--mutate N] FILE-OR-DIRECTORY...
 *
 * With --mutate it also tries N inputs derived from the files, always the same
 * ones. An input that breaks something is left in `crash-input`.
 */
#include "fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>

#define INPUT_MAX	16384u
#define FILES_MAX	1024u

struct input {
	uint8_t *data;
	size_t len;
};

static struct input files[FILES_MAX];
static size_t nr_files;
static uint8_t current[INPUT_MAX];
static size_t current_len;

static void on_abort(int sig)
{
	int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd >= 0 && write(fd, current, current_len) >= 0)
		close(fd);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void run(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);	/* exact, so that a read past its end shows */

	if (!copy)
		abort();
	memcpy(copy, data, len);
	memmove(current, data, len);
	current_len = len;
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static int load_file(const char *path)
{
	uint8_t buf[INPUT_MAX];
	FILE *f = fopen(path, "rbe");
	size_t len;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	len = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	if (nr_files == FILES_MAX)
		return -1;
	files[nr_files].data = malloc(len ? len : 1);
	if (!files[nr_files].data)
		return -1;
	memcpy(files[nr_files].data, buf, len);
	files[nr_files++].len = len;
	return 0;
}

static int load(const char *path)
{
	struct dirent **names = NULL;
	struct stat st;
	char *file;
	int i, n, ret = 0;

	if (stat(path, &st)) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode))
		return load_file(path);
	n = scandir(path, &names, NULL, alphasort);
	for (i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			if (asprintf(&file, "%s/%s", path, names[i]->d_name) < 0)
				return -1;
			ret |= load_file(file);
			free(file);
		}
		free(names[i]);
	}
	free(names);
	return ret;
}

static uint32_t rnd_state = 2463534242u;

static uint32_t rnd(uint32_t below)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 17;
	rnd_state ^= rnd_state << 5;
	return rnd_state % below;
}

/* A file, changed at some places: bits, bytes, words, cut, grown, joined with another. */
static void mutate(void)
{
	static const uint64_t special[] = { 0, 1, 2, 7, 8, 127, 255, 4095, 4096, 4097, 8192, 65535,
					    INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX };
	static uint8_t buf[INPUT_MAX];
	const struct input *from = &files[rnd((uint32_t)nr_files)];
	uint32_t len = (uint32_t)from->len, times = 1 + rnd(8), at, n;
	uint64_t word;

	memcpy(buf, from->data, len);
	while (times--) {
		at = len ? rnd(len) : 0;
		switch (rnd(7)) {
		case 0:
			buf[at] ^= (uint8_t)(1u << rnd(8));
			break;
		case 1:
			buf[at] = (uint8_t)rnd(256);
			break;
		case 2:
			word = special[rnd(sizeof(special) / sizeof(special[0]))];
			n = 1u << rnd(4);
			if (at + n <= len)
				memcpy(buf + at, &word, n);
			break;
		case 3:
			len = at;
			break;
		case 4:
			for (n = rnd(64); n && len < INPUT_MAX; n--)
				buf[len++] = (uint8_t)rnd(256);
			break;
		case 5:
			n = rnd(64);
			if (at + n <= len && len + n <= INPUT_MAX) {
				memmove(buf + at + n, buf + at, len - at);
				len += n;
			}
			break;
		default:
			from = &files[rnd((uint32_t)nr_files)];
			n = (uint32_t)from->len;
			if (n > INPUT_MAX - at)
				n = INPUT_MAX - at;
			memcpy(buf + at, from->data, n);
			if (at + n > len)
				len = at + n;
			break;
		}
	}
	run(buf, len);
}

int main(int argc, char **argv)
{
	unsigned long mutations = 0;
	unsigned long i;
	int arg = 1;

	if (argc > 2 && !strcmp(argv[1], "--mutate")) {
		mutations = strtoul(argv[2], NULL, 10);
		arg = 3;
	}
	for (; arg < argc; arg++)
		if (load(argv[arg]))
			return 1;
	if (!nr_files) {
		fprintf(stderr, "no input\n");
		return 1;
	}
	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	for (i = 0; i < nr_files; i++)
		run(files[i].data, files[i].len);
	for (i = 0; i < mutations; i++)
		mutate();
	printf("%zu inputs, %lu mutations\n", nr_files, mutations);
	for (i = 0; i < nr_files; i++)
		free(files[i].data);
	return 0;
}
