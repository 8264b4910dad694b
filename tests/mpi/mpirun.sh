#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mpirun.sh MPIRUN SIZE PROGRAM...: the program on so many ranks of this machine, be they more than its
# cores, as root too. MPIRUN is that of Open MPI, of MPICH or of a relative of theirs.
set -euo pipefail
mpirun=$1
size=$2
shift 2
# Open MPI reads these, from 4 on and from 5 on; nobody else does. Ranks are not tied to a core each, as
# they have threads, and copy through shared memory, since containers forbid reading another process.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_smsc=^cma
exec timeout --kill-after=5 110 "$mpirun" -n "$size" "$@"
