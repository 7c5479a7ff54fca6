#include "router/migration/core.hpp"

#include <algorithm>
#include <cstdlib>

#include "router/catalog/catalog_loader.hpp"
#include "router/catalog/mapping.hpp"
#include "router/migration/clock.hpp"

namespace banyan::router {

Core::Core(const Config& config_, StateDb& db_, Ledger& ledger_, Breaker& breaker_, Lease* lease)
    : config(config_),
      db(db_),
      ledger(ledger_),
      breaker(breaker_),
      store(db_),
      audit(db_),
      started_unix_ms(unix_ms()),
      lease_(lease) {
    const PhaseEntry entry = store.phase();
    const std::string share = store.setting("shadow_share");
    directive_.epoch = 1;
    directive_.phase = entry.phase;
    directive_.shadow_share =
        share.empty() ? config.shadow.share : std::strtod(share.c_str(), nullptr);
    directive_.shadow = shadows(entry.phase) && directive_.shadow_share > 0;
    phase_since_unix_ms_ = entry.at_unix_ms;
}

void Core::attach(Fleet& fleet) {
    fleet_ = &fleet;
}

Phase Core::phase() const {
    const std::lock_guard lock(mutex_);
    return directive_.phase;
}

std::int64_t Core::phase_since_unix_ms() const {
    const std::lock_guard lock(mutex_);
    return phase_since_unix_ms_;
}

Directive Core::directive() const {
    const std::lock_guard lock(mutex_);
    return directive_;
}

void Core::publish(Phase phase, bool hold, bool end_blocked) {
    const std::lock_guard lock(mutex_);
    Fleet* fleet = fleet_;
    if (phase != directive_.phase) {
        phase_since_unix_ms_ = unix_ms();
        matched_before_ = fleet != nullptr ? fleet->counter_total(Counter::shadow_matched) : 0;
    }
    ++directive_.epoch;
    directive_.phase = phase;
    directive_.hold = hold;
    directive_.ask = hold;
    directive_.end_blocked = hold && end_blocked;
    directive_.shadow = shadows(phase) && directive_.shadow_share > 0;
    if (fleet != nullptr) {
        fleet->publish(directive_);
    }
}

void Core::publish_lost() {
    const std::lock_guard lock(mutex_);
    ++directive_.epoch;
    directive_.lost = true;
    if (Fleet* fleet = fleet_) {
        fleet->publish(directive_);
    }
}

bool Core::persist_phase(Phase from, Phase to, const std::string& reason,
                         const std::string& transition, Lease::Change change) {
    if (!store.persist_phase(from, to, reason, transition)) {
        return false;
    }
    if (lease_ != nullptr) {
        lease_->note_phase(to, store.phase().number, change);
    }
    return true;
}

void Core::ask_sessions() {
    const std::lock_guard lock(mutex_);
    ++directive_.epoch;
    directive_.ask = true;
    if (Fleet* fleet = fleet_) {
        fleet->publish(directive_);
    }
}

void Core::set_shadow_share(double share) {
    store.set_setting("shadow_share", std::to_string(share));
    const std::lock_guard lock(mutex_);
    directive_.shadow_share = share;
    directive_.shadow = shadows(directive_.phase) && share > 0;
    ++directive_.epoch;
    if (Fleet* fleet = fleet_) {
        fleet->publish(directive_);
    }
}

void Core::transition_ended(Phase to, std::string_view state) {
    const std::lock_guard lock(ends_mutex_);
    ++ends_[{to, std::string(state)}];
}

Core::Ends Core::transitions_ended() const {
    const std::lock_guard lock(ends_mutex_);
    return ends_;
}

std::uint64_t Core::counted_in_phase(Counter counter) const {
    Fleet* fleet = fleet_;
    if (fleet == nullptr) {
        return 0;
    }
    const std::uint64_t total = fleet->counter_total(counter);
    const std::lock_guard lock(mutex_);
    const std::uint64_t before = counter == Counter::shadow_matched ? matched_before_ : 0;
    return total > before ? total - before : 0;
}

std::shared_ptr<const Catalog> Core::catalog() const {
    const std::lock_guard lock(catalog_mutex_);
    return catalog_;
}

std::string Core::catalog_error() const {
    const std::lock_guard lock(catalog_mutex_);
    return catalog_error_;
}

Result<std::shared_ptr<const Catalog>> Core::read_catalog(Side primary) {
    auto here = Connection::open(endpoint(primary), "banyan-catalog");
    if (!here) {
        return here.error();
    }
    auto there = Connection::open(endpoint(other(primary)), "banyan-catalog");
    if (!there) {
        return there.error();
    }
    CatalogOptions options;
    options.exclude = config.migration.exclude;
    options.deep_capture = deep_capture();
    options.mappings = config.mappings;
    return load_catalog(*here, *there, primary, db, options, ++catalog_version_);
}

namespace {

bool same_shape(const Table& a, const Table& b) {
    return a.oid == b.oid && a.not_captured_because == b.not_captured_because && a.key == b.key &&
           primary_rows(a) == primary_rows(b) && mirror_rows(a) == mirror_rows(b) &&
           std::equal(a.columns.begin(), a.columns.end(), b.columns.begin(), b.columns.end(),
                      [](const Column& x, const Column& y) {
                          return x.name == y.name && x.type_name == y.type_name &&
                                 x.generated == y.generated;
                      });
}

// DDL may have come from anywhere: a function, a statement that cannot be read, another connection.
// What it did to rows that are there already is not known.
std::vector<SuspectMark> changed_tables(const Catalog* before, const Catalog* now) {
    std::vector<SuspectMark> marks;
    if (before == nullptr || now == nullptr || before->side != now->side) {
        return marks;
    }
    for (const auto& table : now->tables()) {
        const auto known = before->table_by_id(table->id);
        if (known == nullptr) {
            marks.push_back({table->id, "new_table"});
        } else if (!same_shape(*known, *table)) {
            marks.push_back({table->id, "schema_changed"});
        }
    }
    return marks;
}

}  // namespace

void Core::install_locked(std::shared_ptr<const Catalog> catalog) {
    const auto marks = changed_tables(catalog_.get(), catalog.get());
    std::vector<TableId> ids;
    std::map<TableId, std::uint32_t> key_types;
    if (catalog != nullptr) {
        for (const auto& table : catalog->tables()) {
            ids.push_back(table->id);
            key_types[table->id] = leading_key_type(*table);
        }
    }
    catalog_ = catalog;
    catalog_error_.clear();
    ledger.set_tables(std::move(ids), std::move(key_types));
    if (!marks.empty()) {
        ledger.mark_suspect(marks);
    }
    if (Fleet* fleet = fleet_) {
        fleet->set_catalog(std::move(catalog));
    }
}

void Core::install_catalog(std::shared_ptr<const Catalog> catalog) {
    const std::lock_guard lock(catalog_mutex_);
    install_locked(std::move(catalog));
}

bool Core::differs(const Catalog& catalog) const {
    const auto known = this->catalog();
    return known == nullptr || known->tables().size() != catalog.tables().size() ||
           !changed_tables(known.get(), &catalog).empty();
}

bool Core::install_catalog_if_current(std::shared_ptr<const Catalog> catalog) {
    const std::lock_guard lock(catalog_mutex_);
    const Phase now = phase();
    if (flipping_ || !mirrors(now) || primary_of(now) != catalog->side) {
        return false;
    }
    install_locked(std::move(catalog));
    return true;
}

void Core::catalog_failed(const std::string& error) {
    const std::lock_guard lock(catalog_mutex_);
    catalog_error_ = error;
}

void Core::set_flipping(bool flipping) {
    const std::lock_guard lock(catalog_mutex_);
    flipping_ = flipping;
}

}  // namespace banyan::router
