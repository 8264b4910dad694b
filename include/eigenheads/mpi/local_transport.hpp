// SPDX-License-Identifier: MIT
#pragma once
// Ranks that are threads of one process: to try out and to test what is to run on many machines.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/mpi/ranks.hpp>      // Ranks
#include <eigenheads/mpi/transport.hpp>  // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct LocalTransportOptions {
  // A message of at most so many bytes is copied when it is sent; a longer one waits for its receiver,
  // as with MPI, where programs that rely on anything else stand still.
  std::size_t eager_bytes = 4096;
};

namespace detail {

// What a send or a receive has come to; both ranks see it.
struct LocalRequest {
  static constexpr std::size_t under_way = static_cast<std::size_t>(-1);
  std::atomic<std::size_t> bytes{under_way};  // of the message that was sent or received
  std::size_t expected = 0;
};

// What has been sent to a rank, and what it has asked for, in the order in which that was.
struct Mailbox {
  struct Sent {
    int from, tag;
    std::span<const std::byte> bytes;  // the sender's, or those of `copy`
    std::vector<std::byte> copy;
    std::shared_ptr<LocalRequest> request;
  };
  struct Posted {
    int from, tag;
    std::span<std::byte> bytes;
    std::shared_ptr<LocalRequest> request;
  };
  std::mutex mutex;
  std::list<Sent> sent;
  std::list<Posted> posted;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(int rank, std::shared_ptr<std::vector<Mailbox>> mailboxes,
                 LocalTransportOptions options)
      : rank_(rank), mailboxes_(std::move(mailboxes)), options_(options) {}

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int size() const override { return static_cast<int>(mailboxes_->size()); }

  Request send(int to, int tag, std::span<const std::byte> bytes) override {
    const auto request = std::make_shared<LocalRequest>();
    request->expected = bytes.size();
    make_number();
    std::list<Mailbox::Sent> one(1);  // what takes memory comes before others see it
    Mailbox::Sent& sent = one.front();
    sent.from = rank_;
    sent.tag = tag;
    const bool is_eager = tag == control_tag || bytes.size() <= options_.eager_bytes;
    if (is_eager) {
      sent.copy.assign(bytes.begin(), bytes.end());
      sent.bytes = sent.copy;
    } else {
      sent.bytes = bytes;
      sent.request = request;
    }
    Mailbox& box = mailbox(to);
    const std::lock_guard lock(box.mutex);
    const auto posted =
        std::find_if(box.posted.begin(), box.posted.end(),
                     [&](const Mailbox::Posted& p) { return p.from == rank_ && p.tag == tag; });
    if (posted != box.posted.end()) {
      deliver(bytes, *posted);
      box.posted.erase(posted);
      request->bytes.store(bytes.size());
    } else {
      box.sent.splice(box.sent.end(), one);
      if (is_eager) request->bytes.store(bytes.size());
    }
    return number({.request = request, .mailbox = to, .from = rank_});
  }

  Request receive(int from, int tag, std::span<std::byte> bytes) override {
    const auto request = std::make_shared<LocalRequest>();
    request->expected = bytes.size();
    make_number();
    std::list<Mailbox::Posted> one{{from, tag, bytes, request}};
    Mailbox& box = mailbox(rank_);
    const std::lock_guard lock(box.mutex);
    const auto sent = std::find_if(box.sent.begin(), box.sent.end(), [&](const Mailbox::Sent& s) {
      return s.from == from && s.tag == tag;
    });
    if (sent == box.sent.end()) {
      box.posted.splice(box.posted.end(), one);
    } else {
      deliver(sent->bytes, one.front());
      if (sent->request != nullptr) sent->request->bytes.store(sent->bytes.size());
      box.sent.erase(sent);
    }
    return number({.request = request, .mailbox = rank_, .from = from});
  }

  bool is_done(Request request) override {
    const std::size_t bytes = at(request).request->bytes.load(),
                      expected = at(request).request->expected;
    const int from = at(request).from;
    if (bytes == LocalRequest::under_way) return false;
    forget(request);
    if (bytes != expected)
      eigenheads::detail::refuse<std::runtime_error>(
          {"rank ", rank_, " was sent ", bytes, " bytes by rank ", from, "; expected ", expected});
    return true;
  }

  bool cancel(Request request) override {
    Mailbox& box = mailbox(at(request).mailbox);
    const LocalRequest* const own = at(request).request.get();
    const std::lock_guard lock(box.mutex);
    if (own->bytes.load() != LocalRequest::under_way) return false;
    box.sent.remove_if([own](const Mailbox::Sent& s) { return s.request.get() == own; });
    box.posted.remove_if([own](const Mailbox::Posted& p) { return p.request.get() == own; });
    forget(request);
    return true;
  }

  std::optional<Arrival> arrived(int tag) override {
    Mailbox& box = mailbox(rank_);
    const std::lock_guard lock(box.mutex);
    for (const Mailbox::Sent& sent : box.sent)
      if (sent.tag == tag) return Arrival{sent.from, sent.bytes.size()};
    return {};
  }

 private:
  struct Numbered {
    std::shared_ptr<LocalRequest> request;
    int mailbox = 0;  // that it may still lie in
    int from = 0;
  };

  // Of a message of another length, so much as both have.
  static void deliver(std::span<const std::byte> bytes, const Mailbox::Posted& posted) {
    const std::size_t size = (std::min)(bytes.size(), posted.bytes.size());
    if (size > 0) std::memcpy(posted.bytes.data(), bytes.data(), size);
    posted.request->bytes.store(bytes.size());
  }

  [[nodiscard]] Mailbox& mailbox(int rank) const {
    return (*mailboxes_)[static_cast<std::size_t>(rank)];
  }
  [[nodiscard]] Numbered& at(Request request) {
    return requests_[static_cast<std::size_t>(request)];
  }
  // There is one to be had then, and room to give all of them back.
  void make_number() {
    if (!free_.empty()) return;
    requests_.emplace_back();
    free_.reserve(requests_.capacity());
    free_.push_back(static_cast<Request>(requests_.size()) - 1);
  }
  [[nodiscard]] Request number(Numbered numbered) {
    const Request request = free_.back();
    free_.pop_back();
    at(request) = std::move(numbered);
    return request;
  }
  void forget(Request request) {
    at(request).request.reset();
    free_.push_back(request);
  }

  int rank_;
  std::shared_ptr<std::vector<Mailbox>> mailboxes_;
  LocalTransportOptions options_;
  std::vector<Numbered> requests_;
  std::vector<Request> free_;
};

}  // namespace detail

// One for each rank, to be used by one thread each.
[[nodiscard]] inline std::vector<std::unique_ptr<Transport>> local_transports(
    int size, LocalTransportOptions options = {}) {
  if (size < 1) eigenheads::detail::refuse({"there are ", size, " ranks; expected 1 or more"});
  const auto mailboxes =
      std::make_shared<std::vector<detail::Mailbox>>(static_cast<std::size_t>(size));
  std::vector<std::unique_ptr<Transport>> transports;
  transports.reserve(mailboxes->size());
  for (int rank = 0; rank < size; ++rank)
    transports.push_back(std::make_unique<detail::LocalTransport>(rank, mailboxes, options));
  return transports;
}

// run(ranks) on a thread each. Returns when all have; throws what the lowest rank that failed by itself
// (not by a RankError) threw, or std::system_error if there is no thread for one. Throws
// std::invalid_argument for no transports.
inline void run_locally(std::vector<std::unique_ptr<Transport>> transports,
                        const std::function<void(Ranks&)>& run, RanksOptions options = {}) {
  if (transports.empty())
    eigenheads::detail::refuse({"run_locally: there are 0 transports; expected 1 or more"});
  std::vector<std::exception_ptr> thrown(transports.size());
  std::vector<char> is_rank_error(transports.size());
  // All are made before one begins: the others would wait for one that could not be.
  std::deque<std::optional<Ranks>> all(transports.size());
  for (std::size_t r = 0; r < all.size(); ++r) all[r].emplace(std::move(transports[r]), options);
  const auto be_rank = [&](std::size_t r) {
    Ranks& ranks = *all[r];
    try {
      run(ranks);
      ranks.leave("it has returned");
    } catch (const std::exception& exception) {
      ranks.leave(exception.what());
      is_rank_error[r] = dynamic_cast<const RankError*>(&exception) == nullptr ? 0 : 1;
      thrown[r] = std::current_exception();
    } catch (...) {
      ranks.leave("an exception that is no std::exception");
      thrown[r] = std::current_exception();
    }
    all[r].reset();
  };
  const auto be_nobody = [&](std::size_t r) {
    all[r]->leave("there is no thread for each of the ranks");
    all[r].reset();
  };
  std::vector<std::thread> threads;
  threads.reserve(transports.size());
  std::exception_ptr not_started;
  try {
    for (std::size_t r = 1; r < transports.size(); ++r) threads.emplace_back(be_rank, r);
  } catch (...) {
    not_started = std::current_exception();
  }
  if (not_started == nullptr) {
    be_rank(0);
  } else {
    be_nobody(0);
    for (std::size_t r = threads.size() + 1; r < transports.size(); ++r) be_nobody(r);
  }
  for (std::thread& thread : threads) thread.join();
  if (not_started != nullptr) std::rethrow_exception(not_started);
  for (const bool by_itself : {true, false})
    for (std::size_t r = 0; r < thrown.size(); ++r)
      if (thrown[r] != nullptr && (is_rank_error[r] == 0) == by_itself)
        std::rethrow_exception(thrown[r]);
}
inline void run_locally(int size, const std::function<void(Ranks&)>& run,
                        RanksOptions options = {}) {
  run_locally(local_transports(size), run, options);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
