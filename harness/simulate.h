/* What a case really reads and writes, launch by launch, counted by the simulator Oclgrind in a
 * child of this program. SPDX-License-Identifier: Apache-2.0 */
#ifndef KF_SIMULATE_H
#define KF_SIMULATE_H
#include "histogram.h"
#include "once.h"

enum { KF_SIMULATED_ELEMENTS = 16 << 10 }; /* an interpreter: seconds where a device takes none */

typedef struct kf_simulation {
    kf_case test;     /* as it was simulated */
    bool smaller;     /* not the shape that was asked for */
    bool other_knobs; /* those asked for do not fit the simulator: its defaults */
    int count;
    kf_declared declared[KF_MAX_STEPS]; /* of the simulator's own plan */
    kf_executed executed[KF_MAX_STEPS];
} kf_simulation;

/* The simulator's runtime library. `given`: a path, "none", or NULL to look in the usual folders.
 * KF_UNAVAILABLE with a sentence that tells what brings it. */
kf_status kf_simulator_find(const char *given, char *path, size_t bytes);
/* The largest dims first are cut until the case has few enough elements; true when some were. */
bool kf_simulation_shape(kf_case *c);
kf_status kf_simulate(const kf_case *c, const char *library, volatile int *cancel,
                      kf_simulation *simulation);
/* Are bytes written equal, and bytes read within what is declared? */
bool kf_simulation_agrees(const kf_simulation *simulation, int step);
#endif
