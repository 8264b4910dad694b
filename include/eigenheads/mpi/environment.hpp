// SPDX-License-Identifier: MIT
#pragma once
// A program of MPI: from MPI_Init_thread to MPI_Finalize, or to the exception that ends all its ranks.
//   int main(int argc, char** argv) {
//     eigenheads::mpi::Environment environment(argc, argv);
//     return environment.run([&](eigenheads::mpi::Ranks& ranks) { ...; return 0; });
//   }
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <mpi.h>
#include <thread>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>              // refuse
#include <eigenheads/mpi/mpi_transport.hpp>  // MpiTransport
#include <eigenheads/mpi/ranks.hpp>          // Ranks

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// One in a program, made and destroyed by its main thread.
class Environment {
 public:
  // Where MPI was initialized before, that is left as it is.
  Environment(int& argc, char**& argv) {
    int is_initialized = 0, level = 0;
    MPI_Initialized(&is_initialized);
    if (is_initialized == 0) MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    is_owner_ = is_initialized == 0;
    terminate_before_ = std::set_terminate(&terminate);
    detail::require_mpi();
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    std::set_terminate(terminate_before_);
    // MPI_Finalize would wait for ranks that may wait for this one.
    if (std::uncaught_exceptions() > exceptions_before_) end_all("is left by an exception");
    if (is_owner_) MPI_Finalize();
  }

  // run(ranks) with the ranks of MPI_COMM_WORLD, to give what the program returns. An exception ends
  // all ranks, and mpirun says that it failed. Who has thrown by itself prints its sentence, be that
  // several; who has a RankError does so only if nobody else has ended it a second later.
  [[nodiscard]] int run(const std::function<int(Ranks&)>& run, RanksOptions options = {}) const {
    try {
      Ranks ranks(std::make_unique<MpiTransport>(MPI_COMM_WORLD), options);
      return run(ranks);
    } catch (...) {
      end_all_by(std::current_exception());
    }
  }

 private:
  [[noreturn]] static void end_all(const char* sentence) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::fprintf(stderr, "rank %d: %s\n", rank, sentence);
    std::fflush(stderr);
    // MPICH's mpirun drops what it has not passed on when it is told to end all.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE);
    std::abort();
  }
  [[noreturn]] static void end_all_by(const std::exception_ptr& exception) {
    try {
      std::rethrow_exception(exception);
    } catch (const RankError& error) {
      // The rank that it names knows best, and ends this one, if it still can. If not, one of the
      // others does, before the rest has slept.
      int rank = 0;
      MPI_Comm_rank(MPI_COMM_WORLD, &rank);
      std::this_thread::sleep_for(std::chrono::milliseconds(1000 + 500 * (rank % 10)));
      end_all(error.what());
    } catch (const std::exception& error) {
      end_all(error.what());
    } catch (...) {
      end_all("an exception that is no std::exception");
    }
  }
  // For an exception that nobody catches.
  [[noreturn]] static void terminate() {
    const std::exception_ptr exception = std::current_exception();
    if (exception != nullptr) end_all_by(exception);
    end_all("std::terminate was called");
  }

  bool is_owner_ = false;
  std::terminate_handler terminate_before_ = nullptr;
  int exceptions_before_ = std::uncaught_exceptions();
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
