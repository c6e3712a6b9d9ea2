/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cmocka wants included before it. */
#ifndef VMC_TEST_H
#define VMC_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
