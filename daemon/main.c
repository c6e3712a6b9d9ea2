// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"
#include "service.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	struct vmc_options opt;

	if (vmc_options_parse(argc, argv, &opt, stdout, stderr))
		return 2;
	return opt.quit ? EXIT_SUCCESS : vmc_service_run(&opt);
}
