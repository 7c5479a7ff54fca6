#include "router/metrics/counter_descriptions.hpp"

namespace banyan::router {
namespace {

constexpr std::string_view connections_help =
    "Client connections by what became of them at the door.";
constexpr std::string_view bytes_help = "Bytes of the wire protocol exchanged with clients.";
constexpr std::string_view statements_help = "Statements by how Banyan treats them.";
constexpr std::string_view mirror_help =
    "Transactions that wrote, by what became of their mirror half.";
constexpr std::string_view waits_help =
    "Times a client waited for the mirror, by how that ended; slow: beyond a quarter of "
    "commit_timeout_ms.";
constexpr std::string_view shadow_help =
    "Shadow reads by result; a mismatch counts here before it is checked again.";

constexpr std::array<CounterDescription, counter_count> descriptions = {{
    {Counter::client_connections, "client_connections_total", "result", "accepted",
     connections_help},
    {Counter::client_connections_refused, "client_connections_total", "result", "refused",
     connections_help},
    {Counter::logins_failed, "logins_failed_total", "", "",
     "Client logins that the primary refused or that did not finish."},
    {Counter::queries, "queries_total", "", "", "Query and Execute messages from clients."},
    {Counter::transactions, "transactions_total", "", "",
     "Client transactions that ended, committed or not."},
    {Counter::bytes_from_clients, "client_bytes_total", "direction", "received", bytes_help},
    {Counter::bytes_to_clients, "client_bytes_total", "direction", "sent", bytes_help},
    {Counter::statements_read, "statements_total", "class", "read", statements_help},
    {Counter::statements_captured, "statements_total", "class", "captured", statements_help},
    {Counter::statements_opaque, "statements_total", "class", "opaque", statements_help},
    {Counter::statements_other, "statements_total", "class", "other", statements_help},
    {Counter::rows_captured, "rows_captured_total", "", "",
     "Row images learned from the primary's answers."},
    {Counter::mirror_rows_applied, "mirror_rows_applied_total", "", "",
     "Row images applied to the mirror."},
    {Counter::mirror_zero_row_deletes, "mirror_zero_row_deletes_total", "", "",
     "Deletes applied to the mirror that found no row; their keys turn dirty unless provably not "
     "yet backfilled."},
    {Counter::mirror_commits, "mirror_transactions_total", "result", "committed", mirror_help},
    {Counter::mirror_failures, "mirror_transactions_total", "result", "failed", mirror_help},
    {Counter::mirror_skipped, "mirror_transactions_total", "result", "skipped", mirror_help},
    {Counter::writes_rejected, "mirror_transactions_total", "result", "rejected", mirror_help},
    {Counter::mirror_waits_answered, "mirror_waits_total", "result", "answered", waits_help},
    {Counter::mirror_waits_slow, "mirror_waits_total", "result", "slow", waits_help},
    {Counter::mirror_waits_failed, "mirror_waits_total", "result", "failed", waits_help},
    {Counter::mirror_waits_timed_out, "mirror_waits_total", "result", "timed_out", waits_help},
    {Counter::mirror_wait_microseconds, "mirror_wait_microseconds_total", "", "",
     "Time that clients waited for answers of the mirror's that came."},
    {Counter::shadow_sent, "shadow_reads_sent_total", "", "", "Shadow reads sent to the mirror."},
    {Counter::shadow_matched, "shadow_reads_total", "result", "matched", shadow_help},
    {Counter::shadow_mismatched, "shadow_reads_total", "result", "mismatched", shadow_help},
    {Counter::shadow_skipped, "shadow_reads_total", "result", "skipped", shadow_help},
    {Counter::shadow_errors, "shadow_reads_total", "result", "error", shadow_help},
    {Counter::cancels, "cancels_total", "", "", "Cancel requests from clients."},
    {Counter::protocol_violations, "protocol_violations_total", "", "",
     "Sessions ended because a peer broke the wire protocol."},
}};

}  // namespace

const std::array<CounterDescription, counter_count>& counter_descriptions() {
    return descriptions;
}

}  // namespace banyan::router
