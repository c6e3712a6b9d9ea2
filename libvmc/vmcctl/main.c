// SPDX-License-Identifier: LGPL-2.1-or-later
#include "vmcctl.h"

#include <locale.h>

int main(int argc, char **argv)
{
	/* Only how text is encoded: names are UTF-8 wherever vmcctl is run. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		setlocale(LC_CTYPE, "");
	return vmcctl_run(argc, argv, stdout, stderr);
}
