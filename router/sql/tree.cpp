#include "router/sql/tree.hpp"

#include <pg_query.h>

#include <cstring>
#include <vector>

namespace banyan::router {

namespace {

void* allocate(void* memory, std::size_t size) {
    return static_cast<std::pmr::monotonic_buffer_resource*>(memory)->allocate(size);
}
void keep(void* /*memory*/, void* /*pointer*/) {}

/// Locations are the only members that differ between a tree and its text parsed again.
void clear_locations(ProtobufCMessage& message) {
    for (unsigned i = 0; i < message.descriptor->n_fields; ++i) {
        const ProtobufCFieldDescriptor& field = message.descriptor->fields[i];
        const std::string_view name = field.name;
        if (field.type == PROTOBUF_C_TYPE_INT32 && field.label != PROTOBUF_C_LABEL_REPEATED &&
            (name == "location" || name == "stmt_location" || name == "stmt_len")) {
            const std::int32_t zero = 0;
            std::memcpy(reinterpret_cast<char*>(&message) + field.offset, &zero, sizeof zero);
        }
    }
    for_each_field(message, [](const ProtobufCFieldDescriptor&, ProtobufCMessage& child) {
        clear_locations(child);
    });
}

std::string packed(PgQuery__ParseResult& tree) {
    clear_locations(tree.base);
    std::string bytes(pg_query__parse_result__get_packed_size(&tree), '\0');
    pg_query__parse_result__pack(&tree, reinterpret_cast<std::uint8_t*>(bytes.data()));
    return bytes;
}

}  // namespace

ParseTree parse_tree(const std::string& sql) {
    ParseTree tree;
    PgQueryProtobufParseResult result = pg_query_parse_protobuf(sql.c_str());
    if (result.error != nullptr) {
        // The message quotes the text from the error on: all of it, if a string is not closed.
        constexpr std::size_t longest_message = 200;
        tree.error = result.error->message != nullptr ? result.error->message : "syntax error";
        if (tree.error.size() > longest_message) {
            tree.error.resize(longest_message);
        }
    } else {
        tree.memory = std::make_unique<std::pmr::monotonic_buffer_resource>();
        ProtobufCAllocator allocator{&allocate, &keep, tree.memory.get()};
        tree.root = pg_query__parse_result__unpack(
            &allocator, result.parse_tree.len,
            reinterpret_cast<const std::uint8_t*>(result.parse_tree.data));
        if (tree.root == nullptr) {
            tree.error = "the parse tree could not be read";
        }
    }
    pg_query_free_protobuf_parse_result(result);
    return tree;
}

std::optional<std::string> deparse_exactly(PgQuery__ParseResult& tree) {
    std::string bytes = packed(tree);
    const PgQueryProtobuf protobuf{bytes.size(), bytes.data()};
    PgQueryDeparseResult result = pg_query_deparse_protobuf(protobuf);
    std::optional<std::string> sql;
    if (result.error == nullptr && result.query != nullptr) {
        sql = result.query;
    }
    pg_query_free_deparse_result(result);
    if (sql) {
        ParseTree again = parse_tree(*sql);
        if (again.root == nullptr || packed(*again.root) != bytes) {
            sql.reset();
        }
    }
    return sql;
}

std::string_view string_value(const PgQuery__Node* node) {
    if (node == nullptr) {
        return {};
    }
    if (node->node_case == PG_QUERY__NODE__NODE_STRING) {
        return node->string->sval;
    }
    if (node->node_case == PG_QUERY__NODE__NODE_A_CONST &&
        node->a_const->val_case == PG_QUERY__A__CONST__VAL_SVAL) {
        return node->a_const->sval->sval;
    }
    return {};
}

}  // namespace banyan::router
