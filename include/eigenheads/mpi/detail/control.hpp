// SPDX-License-Identifier: MIT
#pragma once
// What ranks say to each other about their rounds, besides the data: short messages with a tag of
// their own, that nobody needs to have posted a receive for.
#include <cstddef>
#include <cstring>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/transport.hpp>  // Transport

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

enum class Says : Index {
  begin,   // to rank 0: what this rank was called with
  answer,  // of rank 0: the round begins (no text), or why not
  done,    // to rank 0: this rank has made the round
  over,    // of rank 0: all have
  stop,    // to all: the round has failed; the number of data messages this rank has sent you in it
  report,  // to all: nothing of mine is under way any more; 1 and the sentence if it is me who threw
  gave_up,  // to all: these ranks make no more rounds; the rank that was waited for
  left,     // to all: I make no more rounds
};

struct ControlMessage {
  Says says{};
  std::vector<Index> numbers;
  std::string text;
};

class Control {
 public:
  static constexpr int tag = Transport::control_tag;
  static constexpr std::size_t most_text = 1500;  // a longer one is cut

  explicit Control(Transport& transport)
      : transport_(transport), inbox_(static_cast<std::size_t>(transport.size())) {}

  void send(int to, const ControlMessage& message) {
    const std::string_view text = std::string_view(message.text).substr(0, most_text);
    std::vector<Index> head{static_cast<Index>(message.says),
                            static_cast<Index>(message.numbers.size())};
    head.insert(head.end(), message.numbers.begin(), message.numbers.end());
    const std::size_t head_bytes = head.size() * sizeof(Index);
    std::list<Outgoing> one(1);  // what takes memory comes before it is sent
    Outgoing& outgoing = one.front();
    outgoing.bytes.resize(head_bytes + text.size());
    std::memcpy(outgoing.bytes.data(), head.data(), head_bytes);
    if (!text.empty()) std::memcpy(outgoing.bytes.data() + head_bytes, text.data(), text.size());
    outgoing.request = transport_.send(to, tag, outgoing.bytes);
    outbox_.splice(outbox_.end(), one);
    ++sent_;
  }
  void send_all(const ControlMessage& message) {
    for (int to = 0; to < transport_.size(); ++to)
      if (to != transport_.rank()) send(to, message);
  }

  // Takes in what has come, and forgets what has gone.
  void poll() {
    while (const std::optional<Arrival> arrival = transport_.arrived(tag)) take_in(*arrival);
    outbox_.remove_if([this](const Outgoing& out) { return transport_.is_done(out.request); });
  }

  // The oldest message of that rank that was not taken yet, or null.
  [[nodiscard]] const ControlMessage* next(int from) const {
    const std::list<ControlMessage>& queue = inbox_[static_cast<std::size_t>(from)];
    return queue.empty() ? nullptr : &queue.front();
  }
  ControlMessage take(int from) {
    std::list<ControlMessage>& queue = inbox_[static_cast<std::size_t>(from)];
    ControlMessage message = std::move(queue.front());
    queue.pop_front();
    if (message.says == Says::stop) --stops_;
    return message;
  }

  // A rank has said so, and it was not taken yet.
  [[nodiscard]] bool is_stopped() const { return stops_ > 0; }
  // Null if none has.
  [[nodiscard]] const ControlMessage* gave_up() const { return gave_up_ ? &*gave_up_ : nullptr; }
  [[nodiscard]] Index sent() const { return sent_; }
  void reset_sent() { sent_ = 0; }

  // All that was sent is on its way, and its memory not read any more.
  [[nodiscard]] bool is_sent() const { return outbox_.empty(); }
  // For the end, when a rank is not there to take it: what cannot be taken back is never freed.
  void abandon() {
    outbox_.remove_if([this](const Outgoing& out) { return transport_.cancel(out.request); });
    if (!outbox_.empty()) new std::list<Outgoing>(std::move(outbox_));  // NOLINT
  }

 private:
  struct Outgoing {
    std::vector<std::byte> bytes;
    Transport::Request request{};
  };

  void take_in(const Arrival& arrival) {
    // Once it is received it is nowhere else, so what takes memory comes first.
    std::vector<std::byte> bytes(arrival.bytes);
    std::list<ControlMessage> one(1);
    ControlMessage& message = one.front();
    message.numbers.reserve(bytes.size() / sizeof(Index));
    message.text.reserve(bytes.size());
    const Transport::Request request = transport_.receive(arrival.from, tag, bytes);
    while (!transport_.is_done(request)) {  // it is there; MPI may want to be asked again
    }
    Index says = 0, count = 0;
    std::memcpy(&says, bytes.data(), sizeof says);
    std::memcpy(&count, bytes.data() + sizeof says, sizeof count);
    message.says = static_cast<Says>(says);
    message.numbers.resize(static_cast<std::size_t>(count));
    const std::size_t numbers_bytes = message.numbers.size() * sizeof(Index),
                      head_bytes = 2 * sizeof(Index) + numbers_bytes;
    if (count > 0)
      std::memcpy(message.numbers.data(), bytes.data() + 2 * sizeof(Index), numbers_bytes);
    message.text.resize(bytes.size() - head_bytes);
    if (!message.text.empty())
      std::memcpy(message.text.data(), bytes.data() + head_bytes, message.text.size());
    if (message.says == Says::stop) ++stops_;
    if (message.says == Says::gave_up) {
      if (!gave_up_) gave_up_ = std::move(message);
    } else {
      auto& queue = inbox_[static_cast<std::size_t>(arrival.from)];
      queue.splice(queue.end(), one);
    }
  }

  Transport& transport_;
  std::vector<std::list<ControlMessage>> inbox_;  // by rank
  std::list<Outgoing> outbox_;
  std::optional<ControlMessage> gave_up_;
  int stops_ = 0;
  Index sent_ = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
