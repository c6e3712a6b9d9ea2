// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"
#include "service.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	struct vmc_options opt;

	if (vmc_options_parse(argc, argv, &opt, stdout, stderr))
		return 2;
	if (opt.quit)
		return EXIT_SUCCESS;
	return opt.check ? vmc_service_check(&opt) : vmc_service_run(&opt);
}
