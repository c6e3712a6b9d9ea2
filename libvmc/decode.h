/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From the `parameters` of vmcd's answers to the structs of vmc/vmc.h. Every
 * member has to be there, with the right type and in range; members that are
 * not known are skipped.
 *
 * Return 0, VMC_ERR_NO_MEMORY, or VMC_ERR_PROTOCOL with the member in @where
 * (room for VMC_DECODE_WHERE bytes). The output is untouched on failure.
 */
#ifndef VMC_DECODE_H
#define VMC_DECODE_H

#include "vmc/vmc.h"

#include <jansson.h>

#define VMC_DECODE_WHERE	64u

int vmc_decode_status(const json_t *json, struct vmc_status **out, char *where);
int vmc_decode_guests(const json_t *json, struct vmc_guest_list **out, char *where);
int vmc_decode_channels(const json_t *json, struct vmc_channel_list **out, char *where);
int vmc_decode_details(const json_t *json, struct vmc_guest_details **out, char *where);
int vmc_decode_event(const json_t *json, struct vmc_event **out, char *where);
int vmc_decode_policy(const json_t *json, struct vmc_policy **out, char *where);

#endif
