#include "router/session/mirror_link.hpp"

#include <algorithm>
#include <utility>

#include "protocol/messages.hpp"
#include "router/model/mutant.hpp"

namespace banyan::router {
namespace {


std::string error_text(std::string_view body) {
    const auto fields = protocol::decode_error(body);
    return std::string(protocol::error_field(fields, 'C')) + ": " +
           std::string(protocol::error_field(fields, 'M'));
}

// Authorization, a database or role that is not there; or Banyan itself broke the login off.
bool is_refusal(std::string_view sqlstate) {
    return sqlstate.empty() || sqlstate.starts_with("28") || sqlstate.starts_with("3D") ||
           sqlstate.starts_with("42") || sqlstate.starts_with("22");
}

}  // namespace

void MirrorLink::connected(const protocol::Startup& startup, protocol::Credentials credentials,
                           std::string nonce, std::string& out) {
    login_.emplace(std::move(credentials), std::move(nonce));
    state_ = State::login;
    protocol::encode_startup(out, startup);
}

void MirrorLink::adopt(std::uint32_t process_id, std::uint32_t secret_key) {
    reset();
    process_id_ = process_id;
    secret_key_ = secret_key;
    state_ = State::ready;
}

std::vector<std::uint64_t> MirrorLink::reset() {
    std::vector<std::uint64_t> lost;
    for (auto& group : groups_) {
        if (group.kind == Kind::commit) {
            lost.push_back(group.txn);
        }
        if (group.reader) {
            group.reader(0, {});
        }
    }
    groups_.clear();
    backlog_.clear();
    prepared_.clear();
    login_.reset();
    refused_ = false;
    authorization_.clear();
    reported_authorization_.clear();
    state_ = State::down;
    shadows_ = 0;
    group_open_ = false;
    forget_copy();
    in_transaction_ = false;
    failed_ = false;
    return lost;
}

std::optional<std::string> MirrorLink::on_message(char type, std::string_view body,
                                                  std::string& out) {
    if (type == 'S') {
        return on_parameter(body);
    }
    if (login_) {
        return on_login_message(type, body, out);
    }
    if (type == 'N' || type == 'A') {
        return std::nullopt;
    }
    if (groups_.empty()) {
        fault_ = MirrorFault::broken;
        if (type == 'E') {
            judge(MirrorDoing::connection, error_text(body));
        }
        return type == 'E' ? "the mirror ended the connection: " + error_text(body)
                           : std::string("unexpected message '") + type + "' from the mirror";
    }
    if (type == 'Z') {
        return finish_group(out);
    }
    on_group_message(type, body);
    return std::nullopt;
}

std::optional<std::string> MirrorLink::on_login_message(char type, std::string_view body,
                                                        std::string& out) {
    switch (login_->on_message(type, body, out)) {
        case protocol::Login::State::working:
            break;
        case protocol::Login::State::derive:
            events_.derive();
            break;
        case protocol::Login::State::failed:
            refused_ = is_refusal(login_->sqlstate());
            fault_ = fault_of(MirrorDoing::connection, login_->sqlstate());
            return "mirror login failed: " + login_->error();
        case protocol::Login::State::ready:
            process_id_ = login_->process_id();
            secret_key_ = login_->secret_key();
            login_.reset();
            protocol::encode_query(out, setup_);
            groups_.emplace_front();
            groups_.front().kind = Kind::setup;
            if (!assumes_role()) {
                state_ = State::ready;
                out.append(backlog_);
                std::string().swap(backlog_);
            }
            break;
    }
    return std::nullopt;
}

std::optional<std::string> MirrorLink::derived(const protocol::Secret* salted, std::string& out) {
    if (!login_) {
        return std::nullopt;
    }
    if (salted == nullptr) {
        return "too many logins wait for a key";
    }
    login_->derived(*salted, out);
    return std::nullopt;
}

// ParameterStatus. PostgreSQL reports session_authorization whenever it changes.
std::optional<std::string> MirrorLink::on_parameter(std::string_view body) {
    protocol::Reader reader(body);
    if (!assumes_role() || reader.string() != "session_authorization") {
        return std::nullopt;
    }
    reported_authorization_ = reader.string();
    if (state_ == State::ready && reported_authorization_ != authorization_) {
        fault_.reset();
        return "the session's authorization changed to \"" + reported_authorization_ + "\"";
    }
    return std::nullopt;
}

void MirrorLink::on_group_message(char type, std::string_view body) {
    Group& group = groups_.front();
    switch (type) {
        case '1':
            if (!group.prepares.empty()) {
                group.prepares.erase(group.prepares.begin());
            }
            break;
        case 'C':
            if (group.kind == Kind::apply && group.answered < group.executes.size()) {
                begun_ = begun_ || (group.begins && is_current(group));
                const auto write = group.executes[group.answered++];
                if (!mutant("zero_row_delete_is_success") && write != not_watched &&
                    is_current(group) &&
                    protocol::rows_of_tag(body.substr(0, body.find('\0'))) == 0) {
                    events_.zero_rows(write);
                }
            }
            group.tag = body.substr(0, body.find('\0'));
            break;
        case 'E':
            group.error = true;
            group.message = error_text(body);
            for (const auto& name : group.prepares) {
                prepared_.erase(name);
            }
            group.prepares.clear();
            break;
        default:
            break;
    }
    if (group.reader) {
        group.reader(type, body);
    }
}

std::optional<std::string> MirrorLink::finish_group(std::string& out) {
    Group group = std::move(groups_.front());
    groups_.pop_front();
    if (group.error) {  // what was sent behind its error was skipped
        for (const auto& name : group.prepares) {
            prepared_.erase(name);
        }
    }
    switch (group.kind) {
        case Kind::setup:
            if (group.error) {
                refused_ = is_refusal(group.message.substr(0, 5));
                judge(MirrorDoing::connection, group.message);
                return "the mirror refused Banyan's session settings: " + group.message;
            }
            if (assumes_role()) {
                fault_.reset();
                if (reported_authorization_ != authorization_) {
                    return "the mirror did not report the authorization of \"" + authorization_ +
                           "\"";
                }
                state_ = State::ready;
                out.append(backlog_);
                std::string().swap(backlog_);
            }
            events_.ready();
            break;
        case Kind::begin:
        case Kind::apply:
        case Kind::statement:
            if (group.error) {
                fail(group);
            }
            break;
        case Kind::copy:
            finish_copy(group);
            break;
        case Kind::commit:
            // COMMIT of a failed transaction answers ROLLBACK.
            fault_.reset();
            error_ = group.tag;
            if (group.error) {
                judge(MirrorDoing::commit, group.message);
            }
            events_.committed(group.txn, !group.error && group.tag == "COMMIT");
            break;
        case Kind::shadow:
            --shadows_;
            if (group.reader) {
                group.reader('Z', {});
            }
            break;
        case Kind::rollback:
        case Kind::query:
            break;
    }
    return std::nullopt;
}

void MirrorLink::finish_copy(const Group& group) {
    const bool last = is_current(group) &&
                      std::none_of(groups_.begin(), groups_.end(), [](const Group& later) {
                          return later.kind == Kind::copy;
                      });
    const bool early = last && copying_in_;  // it did not wait for the end of the data
    if (group.given_up || !(group.error || early)) {
        return;
    }
    if (copy_undecided_ && last) {
        copying_in_ = false;
        copy_error_ = group.error ? group.message : "it ended a COPY before its data";
    } else {
        fail(group);
    }
}

void MirrorLink::fail(const Group& group) {
    // The transaction the group belonged to may have been given up already.
    if (is_current(group) && !failed_) {
        failed_ = true;
        const bool begin = group.kind == Kind::begin || (group.begins && group.answered == 0);
        // What was sent with it, before a Sync, was skipped; what was sent behind that was not.
        begin_refused_ =
            begin && (group.kind == Kind::begin ||
                      std::any_of(groups_.begin(), groups_.end(),
                                  [this](const Group& later) { return is_current(later); }));
        forget_copy();  // if one is open, it was refused with the rest
        fault_.reset();
        if (group.error) {
            judge(begin ? MirrorDoing::begin : MirrorDoing::statement, group.message);
        }
        events_.failed(group.message);
    }
}

// `error` begins with its SQLSTATE: error_text().
void MirrorLink::judge(MirrorDoing doing, const std::string& error) {
    error_ = error;
    fault_ = fault_of(doing, std::string_view(error).substr(0, 5));
}

std::optional<MirrorFault> MirrorLink::fault_if_lost() const {
    if (!groups_.empty() && groups_.front().error) {
        return fault_of(MirrorDoing::connection,
                        std::string_view(groups_.front().message).substr(0, 5));
    }
    return MirrorFault::unreachable;
}

void MirrorLink::send_query(Kind kind, std::string_view sql, std::string& out) {
    end_group(out);
    protocol::encode_query(out, sql);
    Group group;
    group.kind = kind;
    group.transaction = transaction_;
    groups_.push_back(std::move(group));
}

// Rows follow at once: one group, one answer. Should the server refuse BEGIN, it skips those with it.
void MirrorLink::begin(const std::vector<std::string>& savepoints, std::string& out) {
    std::string sql = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    end_group(out);
    forget_copy();
    in_transaction_ = true;
    ++transaction_;
    failed_ = begin_refused_ = begun_ = unsure_ = false;
    if (savepoints.empty()) {
        Group& group = open_group();
        group.begins = true;
        prepare("banyan_begin", sql, {}, group, out);
        protocol::Bind bind;
        bind.statement = "banyan_begin";
        execute(bind, not_watched, group, out);
        return;
    }
    for (const auto& savepoint : savepoints) {
        sql += "; SAVEPOINT " + quote_identifier(savepoint);
    }
    send_query(Kind::begin, sql, out);
}

bool MirrorLink::all_or_nothing() const {
    const bool skipped_with_it = group_open_ && groups_.back().begins;
    return in_transaction_ && !failed_ && !unsure_ && (begun_ || skipped_with_it);
}

MirrorLink::Group& MirrorLink::open_group() {
    if (!group_open_) {
        groups_.emplace_back();
        groups_.back().transaction = transaction_;
        group_open_ = true;
    }
    return groups_.back();
}

void MirrorLink::prepare(const std::string& name, const std::string& sql,
                         const std::vector<std::uint32_t>& types, Group& group, std::string& out) {
    if (prepared_.insert(name).second) {
        protocol::encode_parse(out, name, sql, types);
        group.prepares.push_back(name);
    }
}

void MirrorLink::execute(const protocol::Bind& bind, std::size_t write, Group& group,
                         std::string& out) {
    protocol::encode_bind(out, bind);
    protocol::encode_execute(out, "");
    group.executes.push_back(write);
    unsure_ = unsure_ || write != not_watched;
}

void MirrorLink::upsert(const Table& table, std::uint64_t catalog_version,
                        const std::vector<std::optional<std::string_view>>& values,
                        std::string& out, std::size_t write) {
    Group& group = open_group();
    const auto name =
        "banyan_upsert_" + std::to_string(table.id) + "_" + std::to_string(catalog_version);
    if (!prepared_.contains(name)) {
        prepare(name, upsert_sql(table), {}, group, out);
    }
    protocol::Bind bind;
    bind.statement = name;
    const Table& mirror = table.on_mirror();
    for (const auto column : image_columns(mirror)) {
        bind.parameter_formats.push_back(mirror.columns[column].binary ? 1 : 0);
    }
    bind.parameters = values;
    execute(bind, write, group, out);
}

void MirrorLink::erase(const Table& table, std::uint64_t catalog_version, std::string_view key,
                       std::size_t write, std::string& out) {
    Group& group = open_group();
    const auto name =
        "banyan_delete_" + std::to_string(table.id) + "_" + std::to_string(catalog_version);
    if (!prepared_.contains(name)) {
        prepare(name, delete_sql(table), {}, group, out);
    }
    protocol::Bind bind;
    bind.statement = name;
    bind.parameter_formats = {1};
    for (const auto column : split_key(key)) {
        bind.parameters.emplace_back(column);
    }
    execute(bind, write, group, out);
}

void MirrorLink::copy_in(std::string_view sql, std::string& out) {
    send_query(Kind::copy, sql, out);
    copying_in_ = copy_undecided_ = unsure_ = true;
}

void MirrorLink::copy_done(std::string& out) {
    if (copying_in_) {
        copying_in_ = false;
        protocol::Message(out, 'c');
    }
}

void MirrorLink::copy_decided(bool succeeded, std::string& out) {
    if (!std::exchange(copy_undecided_, false)) {
        return;
    }
    const auto error = std::exchange(copy_error_, std::nullopt);
    if (!succeeded) {
        fail_copy(out);
        for (auto& group : groups_) {
            group.given_up = group.given_up || (group.kind == Kind::copy && is_current(group));
        }
    } else if (error && !failed_) {
        failed_ = true;
        events_.failed(*error);
    }
}

void MirrorLink::fail_copy(std::string& out) {
    if (copying_in_) {
        copying_in_ = false;
        groups_.back().given_up = true;
        protocol::Message(out, 'f').string("given up on the primary");
    }
}

void MirrorLink::forget_copy() {
    copying_in_ = copy_undecided_ = false;
    copy_error_.reset();
}

void MirrorLink::end_group(std::string& out) {
    fail_copy(out);
    if (group_open_) {
        protocol::encode_sync(out);
        group_open_ = false;
    }
}

void MirrorLink::statement(std::string_view sql, std::string& out) {
    send_query(Kind::statement, sql, out);
    unsure_ = true;
}

void MirrorLink::commit(std::uint64_t txn, std::string& out) {
    send_query(Kind::commit, "COMMIT", out);
    groups_.back().txn = txn;
    in_transaction_ = false;
}

void MirrorLink::rollback(std::string& out) {
    send_query(Kind::rollback, "ROLLBACK", out);
    forget_copy();
    in_transaction_ = false;
    failed_ = false;
}

void MirrorLink::query(std::string_view sql, std::string& out) {
    send_query(Kind::query, sql, out);
}

void MirrorLink::ask(std::string_view sql, MirrorReader reader, std::string& out) {
    send_query(Kind::query, sql, out);
    groups_.back().reader = std::move(reader);
}

void MirrorLink::shadow_query(std::string_view sql, MirrorReader reader, std::string& out) {
    send_query(Kind::shadow, sql, shadow_out(out));
    groups_.back().reader = std::move(reader);
    ++shadows_;
}

void MirrorLink::shadow_execute(const std::string& name, std::string_view sql,
                                const std::vector<std::uint32_t>& parameter_types,
                                const protocol::Bind& bind, MirrorReader reader,
                                std::string& out) {
    groups_.emplace_back();
    Group& group = groups_.back();
    group.kind = Kind::shadow;
    group.reader = std::move(reader);
    ++shadows_;
    std::string& to = shadow_out(out);
    if (name.empty()) {
        // The unnamed statement: replaced by each Parse, so nothing piles up on the mirror.
        protocol::encode_parse(to, name, sql, parameter_types);
        group.prepares.push_back(name);
    } else {
        prepare(name, std::string(sql), parameter_types, group, to);
    }
    protocol::Bind mirrored = bind;
    mirrored.portal = "";
    mirrored.statement = name;
    protocol::encode_bind(to, mirrored);
    protocol::encode_execute(to, "");
    protocol::encode_sync(to);
}

bool MirrorLink::owes_commit() const {
    return std::any_of(groups_.begin(), groups_.end(),
                       [](const Group& group) { return group.kind == Kind::commit; });
}

bool MirrorLink::front_is_shadow() const {
    return !groups_.empty() && groups_.front().kind == Kind::shadow;
}

}  // namespace banyan::router
