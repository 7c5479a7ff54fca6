// PostgreSQL's parse tree as libpg_query gives it (protobuf-c messages), and a walk over it by
// the messages' own descriptors, so that no kind of node can be forgotten.
// Call inside with_stack_for() (nesting.hpp): everything here recurses.
#pragma once

#include <pg_query/pg_query.pb-c.h>

#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>

namespace banyan::router {

/// A tree and the memory it lives in: freed as a whole, since a long query has millions of nodes.
struct ParseTree {
    std::unique_ptr<std::pmr::monotonic_buffer_resource> memory;
    PgQuery__ParseResult* root = nullptr;  ///< null: see error
    std::string error;
};

ParseTree parse_tree(const std::string& sql);

/// The SQL text of a tree. Trees may be put together by hand: nullopt if the text, parsed again,
/// does not give the same tree (libpg_query's deparser is not exact for everything). Clears the
/// tree's source locations.
std::optional<std::string> deparse_exactly(PgQuery__ParseResult& tree);

/// The value of a Value node (String), or of one inside A_Const; empty for others.
std::string_view string_value(const PgQuery__Node* node);

template <class T>
const T& member_at(const ProtobufCMessage& message, std::size_t offset) {
    return *static_cast<const T*>(
        static_cast<const void*>(reinterpret_cast<const char*>(&message) + offset));
}

/// Calls visit(field, child) for every message directly inside `message`.
template <class Visit>
void for_each_field(const ProtobufCMessage& message, Visit&& visit) {
    const ProtobufCMessageDescriptor& descriptor = *message.descriptor;
    const auto one = [&](const ProtobufCFieldDescriptor& field) {
        if (field.type != PROTOBUF_C_TYPE_MESSAGE) {
            return;
        }
        if (field.label == PROTOBUF_C_LABEL_REPEATED) {
            const auto count = member_at<std::size_t>(message, field.quantifier_offset);
            auto* const* items = member_at<ProtobufCMessage* const*>(message, field.offset);
            for (std::size_t i = 0; i < count; ++i) {
                visit(field, *items[i]);
            }
            return;
        }
        if ((field.flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0U &&
            member_at<std::uint32_t>(message, field.quantifier_offset) != field.id) {
            return;
        }
        if (auto* child = member_at<ProtobufCMessage*>(message, field.offset); child != nullptr) {
            visit(field, *child);
        }
    };
    if (&descriptor == &pg_query__node__descriptor) {
        // One member out of some 240: go straight to it.
        const auto which = reinterpret_cast<const PgQuery__Node&>(message).node_case;
        if (const auto* field =
                protobuf_c_message_descriptor_get_field(&descriptor, static_cast<unsigned>(which));
            field != nullptr) {
            one(*field);
        }
        return;
    }
    for (unsigned i = 0; i < descriptor.n_fields; ++i) {
        one(descriptor.fields[i]);
    }
}

}  // namespace banyan::router
