// SPDX-License-Identifier: MIT
#pragma once
// Ranks that are processes of MPI, on one machine or on many. With environment.hpp, which includes it,
// the one header that needs <mpi.h>: link eigenheads::mpi.
//   mpi::Ranks ranks(std::make_unique<mpi::MpiTransport>(MPI_COMM_WORLD));
#include <cstddef>
#include <exception>
#include <mpi.h>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/mpi/transport.hpp>  // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

namespace detail {

// Where an error of MPI is returned, as on the communicators that are made here.
inline void require_success(int error, const char* call) {
  if (error == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING + 1] = "";
  int length = 0;
  MPI_Error_string(error, text, &length);
  eigenheads::detail::refuse<std::runtime_error>(
      {call, " failed: ", std::string(text, static_cast<std::size_t>(length))});
}

inline void require_mpi() {
  int is_initialized = 0, is_finalized = 0;
  MPI_Initialized(&is_initialized);
  MPI_Finalized(&is_finalized);
  if (is_initialized == 0 || is_finalized != 0)
    eigenheads::detail::refuse<std::logic_error>(
        {"MPI is ", is_initialized == 0 ? "not initialized" : "finalized",
         "; expected MPI_Init_thread before ranks are made, and MPI_Finalize after they are gone"});
  int level = 0, is_main = 0;
  MPI_Query_thread(&level);
  MPI_Is_thread_main(&is_main);
  if (level < MPI_THREAD_FUNNELED)
    eigenheads::detail::refuse<std::logic_error>(
        {"MPI was initialized with MPI_THREAD_SINGLE; expected MPI_THREAD_FUNNELED or more, since "
         "the library computes on threads of its own"});
  if (level == MPI_THREAD_FUNNELED && is_main == 0)
    eigenheads::detail::refuse<std::logic_error>(
        {"ranks are made on another thread than MPI was initialized on; expected that one, as MPI "
         "was asked for no more than MPI_THREAD_FUNNELED"});
}

}  // namespace detail

// On a duplicate of the communicator, so that its messages meet no others. All ranks of the
// communicator make theirs at once. With MPI_THREAD_FUNNELED everything is called by the main thread.
class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(MPI_Comm communicator) {
    detail::require_mpi();
    int is_between = 0;
    if (communicator != MPI_COMM_NULL) MPI_Comm_test_inter(communicator, &is_between);
    if (communicator == MPI_COMM_NULL || is_between != 0)
      eigenheads::detail::refuse({"the communicator is ",
                                  is_between != 0 ? "one between two groups" : "MPI_COMM_NULL",
                                  "; expected one of all ranks that work together"});
    detail::require_success(MPI_Comm_dup(communicator, &communicator_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(communicator_, &rank_);
    MPI_Comm_size(communicator_, &size_);
  }
  // An exception may have kept other ranks from coming here, and MPI may want all of them to.
  ~MpiTransport() override {
    int is_finalized = 0;
    MPI_Finalized(&is_finalized);
    if (is_finalized == 0 && std::uncaught_exceptions() == 0) MPI_Comm_free(&communicator_);
  }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return size_; }

  Request send(int to, int tag, std::span<const std::byte> bytes) override {
    const Request request = new_slot({});
    detail::require_success(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, to,
                                      tag, communicator_, &at(request).request),
                            "MPI_Isend");
    return request;
  }
  Request receive(int from, int tag, std::span<std::byte> bytes) override {
    const Request request = new_slot({.receives = true, .from = from, .bytes = bytes.size()});
    detail::require_success(MPI_Irecv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, from,
                                      tag, communicator_, &at(request).request),
                            "MPI_Irecv");
    return request;
  }

  bool is_done(Request request) override {
    int is_done = 0;
    MPI_Status status;
    const int error = MPI_Test(&at(request).request, &is_done, &status);
    if (error == MPI_SUCCESS && is_done == 0) return false;
    const Slot slot = at(request);
    free_.push_back(request);
    detail::require_success(error, "MPI_Test");
    if (!slot.receives) return true;
    int is_cancelled = 0, count = 0;
    MPI_Test_cancelled(&status, &is_cancelled);
    MPI_Get_count(&status, MPI_BYTE, &count);
    if (is_cancelled == 0 && static_cast<std::size_t>(count) != slot.bytes)
      eigenheads::detail::refuse<std::runtime_error>({"rank ", rank_, " was sent ", count,
                                                      " bytes by rank ", slot.from, "; expected ",
                                                      slot.bytes});
    return true;
  }

  // A send cannot be taken back: MPI has that, but implementations do not.
  bool cancel(Request request) override {
    Slot& slot = at(request);
    if (!slot.receives) return false;
    if (!std::exchange(slot.is_cancelled, true)) MPI_Cancel(&slot.request);
    int is_done = 0, is_cancelled = 0;
    MPI_Status status;
    // Not MPI_Test: if a message has come after all, is_done() is to say so.
    MPI_Request_get_status(slot.request, &is_done, &status);
    if (is_done == 0) return false;
    MPI_Test_cancelled(&status, &is_cancelled);
    if (is_cancelled == 0) return false;
    MPI_Test(&slot.request, &is_done, MPI_STATUS_IGNORE);
    free_.push_back(request);
    return true;
  }

  std::optional<Arrival> arrived(int tag) override {
    int has_arrived = 0, count = 0;
    MPI_Status status;
    detail::require_success(MPI_Iprobe(MPI_ANY_SOURCE, tag, communicator_, &has_arrived, &status),
                            "MPI_Iprobe");
    if (has_arrived == 0) return {};
    MPI_Get_count(&status, MPI_BYTE, &count);
    return Arrival{status.MPI_SOURCE, static_cast<std::size_t>(count)};
  }

 private:
  struct Slot {
    MPI_Request request = MPI_REQUEST_NULL;
    bool receives = false;
    int from = 0;
    std::size_t bytes = 0;
    bool is_cancelled = false;
  };

  [[nodiscard]] Slot& at(Request request) { return slots_[static_cast<std::size_t>(request)]; }
  [[nodiscard]] Request new_slot(const Slot& slot) {
    if (free_.empty()) {
      slots_.push_back(slot);
      return static_cast<Request>(slots_.size()) - 1;
    }
    const Request request = free_.back();
    free_.pop_back();
    at(request) = slot;
    return request;
  }

  MPI_Comm communicator_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
  std::vector<Slot> slots_;
  std::vector<Request> free_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
