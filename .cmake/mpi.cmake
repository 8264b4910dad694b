# SPDX-License-Identifier: MIT
# eigenheads::mpi, to be linked by programs that include eigenheads/mpi/mpi_transport.hpp or
# environment.hpp: eigenheads::eigenheads and MPI, whichever find_package(MPI) finds. Everything else
# in eigenheads/mpi/ needs neither.
if(TARGET eigenheads::mpi)
  return()
endif()
set(MPI_CXX_SKIP_MPICXX ON) # its C++ functions, gone since MPI 3, and not free of warnings
find_package(MPI QUIET COMPONENTS CXX)
if(MPI_CXX_FOUND)
  # Imported where the library is: whoever exports a target that links it need not export this one.
  get_target_property(is_imported eigenheads::eigenheads IMPORTED)
  if(is_imported)
    add_library(eigenheads::mpi INTERFACE IMPORTED)
    target_link_libraries(eigenheads::mpi INTERFACE eigenheads::eigenheads MPI::MPI_CXX)
  else()
    add_library(eigenheads_mpi INTERFACE)
    add_library(eigenheads::mpi ALIAS eigenheads_mpi)
    target_link_libraries(eigenheads_mpi INTERFACE eigenheads::eigenheads MPI::MPI_CXX)
  endif()
endif()
