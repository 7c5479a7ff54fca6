#include "admin/metrics.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "router/metrics/counter_descriptions.hpp"

namespace banyan::admin {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

bool valid_name(std::string_view name) {
    return !name.empty() && !(name[0] >= '0' && name[0] <= '9') &&
           std::all_of(name.begin(), name.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_';
           });
}

/// One line: the text format has no other place for it.
std::string one_line(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

class Collector {
   public:
    void add(std::string name, const std::string& help, bool counter, Labels labels, double value) {
        const bool total = name.ends_with("_total");
        if (counter && !total) {
            name += "_total";
        } else if (!counter && total) {
            name.resize(name.size() - 6);
        }
        std::sort(labels.begin(), labels.end());
        if (!valid_name(name) || !std::all_of(labels.begin(), labels.end(), [](const auto& label) {
                return valid_name(label.first);
            })) {
            ++dropped_;
            return;
        }
        const MetricType type = counter ? MetricType::Counter : MetricType::Gauge;
        Family& family = families_[name];
        if (family.series.empty()) {
            family.out.name = "banyan_" + name;
            family.out.help = one_line(help);
            family.out.type = type;
        }
        if (family.out.type != type || family.series.size() >= max_series_per_family ||
            !family.series.insert(labels).second) {
            ++dropped_;
            return;
        }
        ClientMetric metric;
        for (auto& [key, text] : labels) {
            metric.label.push_back({std::move(key), std::move(text)});
        }
        (counter ? metric.counter.value : metric.gauge.value) = value;
        family.out.metric.push_back(std::move(metric));
    }

    void add_histogram(const std::string& name, const std::string& help, Labels labels,
                       const router::Timings::Histogram& values) {
        Family& family = families_[name];
        family.out.name = "banyan_" + name;
        family.out.help = help;
        family.out.type = MetricType::Histogram;
        ClientMetric metric;
        for (auto& [key, text] : labels) {
            metric.label.push_back({std::move(key), std::move(text)});
        }
        auto& histogram = metric.histogram;
        for (std::size_t i = 0; i < values.counts.size(); ++i) {
            histogram.sample_count += values.counts[i];
            histogram.bucket.push_back(
                {histogram.sample_count, i < router::Timings::bounds.size()
                                             ? router::Timings::bounds[i] / 1e6
                                             : std::numeric_limits<double>::infinity()});
        }
        histogram.sample_sum = values.seconds;
        family.out.metric.push_back(std::move(metric));
    }

    std::vector<MetricFamily> finish() {
        add("metrics_dropped_series", "Series left out of this answer: too many or badly named.",
            false, {}, static_cast<double>(dropped_));
        std::vector<MetricFamily> out;
        for (auto& [name, family] : families_) {
            out.push_back(std::move(family.out));
        }
        return out;
    }

   private:
    struct Family {
        MetricFamily out;
        std::set<Labels> series;
    };
    std::map<std::string, Family> families_;
    std::uint64_t dropped_ = 0;
};

void add_counters(const std::vector<const router::Counters*>& blocks, Collector& collector) {
    for (const auto& description : router::counter_descriptions()) {
        std::uint64_t sum = 0;
        for (const auto* block : blocks) {
            sum += block->get(description.counter);
        }
        Labels labels;
        if (!description.label.empty()) {
            labels.emplace_back(description.label, description.label_value);
        }
        collector.add(std::string(description.name), std::string(description.help), true,
                      std::move(labels), static_cast<double>(sum));
    }
    std::map<std::pair<std::string, std::string>, std::uint64_t> reasons;
    for (const auto* block : blocks) {
        for (const auto& [key, count] : block->reasons()) {
            reasons[key] += count;
        }
    }
    for (const auto& [key, count] : reasons) {
        collector.add("events_total", "Rare events of the data plane, each with its reason.", true,
                      {{"event", key.first}, {"reason", key.second}}, static_cast<double>(count));
    }
}

void add_timings(const std::vector<const router::Timings*>& blocks, Collector& collector) {
    const auto sum = [&](router::Timing timing) {
        router::Timings::Histogram all;
        for (const auto* block : blocks) {
            block->add_to(timing, all);
        }
        return all;
    };
    const std::string response =
        "From sending to a server that owes no answer to the first byte that comes back; one read in 16 is timed.";
    collector.add_histogram("server_response_seconds", response, {{"side", "source"}},
                            sum(router::Timing::source_response));
    collector.add_histogram("server_response_seconds", response, {{"side", "target"}},
                            sum(router::Timing::target_response));
    collector.add_histogram(
        "overhead_seconds",
        "From bytes read to what follows from them written: Banyan's own work; one read in 16 is timed.",
        {}, sum(router::Timing::overhead));
}

}  // namespace

std::string render_metrics(router::CounterSource& source,
                           const std::vector<router::Sample>& samples) {
    Collector collector;
    collector.add("build_info", "Which build this is; the value is always 1.", false,
                  {{"version", BANYAN_VERSION}}, 1);
    add_counters(source.counters(), collector);
    add_timings(source.timings(), collector);
    for (const auto& all : {source.samples(), samples}) {
        for (const auto& sample : all) {
            collector.add(sample.name, sample.help, sample.counter, sample.labels, sample.value);
        }
    }
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, collector.finish());
    return out.str();
}

}  // namespace banyan::admin
