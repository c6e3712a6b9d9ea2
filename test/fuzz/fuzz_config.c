// SPDX-License-Identifier: GPL-2.0-or-later
/* Any text as vmcd.conf: it is refused with words, or makes a configuration that can be asked. */
#include "fuzz.h"

#include "config.h"

#include <sys/mman.h>
#include <unistd.h>

/* libconfig forgets the text that it was in when it gives up. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}

static unsigned int told;

static void tell(void *arg, const char *text)
{
	(void)arg;
	FUZZ_CHECK(*text);
	told++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vmc_guest a = { .name = "web-1", .vifs = { 1, { { .bridge = "xenbr0" } } } };
	static struct vmc_guest b = { .name = "db--incoming", .uuid = { 1 } };
	int fd = memfd_create("vmcd.conf", 0), err;
	struct vmc_config *c = NULL;
	struct vmc_settings s;
	char path[32];

	FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	told = 0;
	err = vmc_config_load(&c, path, true, tell, NULL);
	FUZZ_CHECK(!err == !!c && !err == !told);
	if (c) {
		FUZZ_CHECK(vmc_config_rule(c, &a, &b) == vmc_config_rule(c, &b, &a));
		s = vmc_config_settings(c, &a);
		FUZZ_CHECK(s.max[VMC_SET_RING] == VMC_NO_LIMIT || s.max[VMC_SET_RING] <= 256 << 10);
		vmc_config_free(c);
	}
	close(fd);
	return 0;
}
