# SPDX-License-Identifier: GPL-2.0-or-later
vmc_add_unit_test(test_ring SOURCES test_ring.c)
vmc_add_unit_test(test_wire SOURCES test_wire.c)
vmc_add_unit_test(test_packet SOURCES test_packet.c)
vmc_add_unit_test(test_ring_threads SOURCES test_ring_threads.c ring_stress.c LABELS threads)
vmc_add_unit_test(test_ring_procs SOURCES test_ring_procs.c ring_stress.c)
