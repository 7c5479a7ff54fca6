#include "router/sql/classify.hpp"

#include <algorithm>
#include <cctype>
#include <span>

#include "router/sql/collect.hpp"

namespace banyan::router {

namespace {

using Nodes = std::span<PgQuery__Node* const>;

Nodes list(PgQuery__Node* const* nodes, std::size_t count) {
    return {nodes, count};
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
        return std::tolower(x) == std::tolower(y);
    });
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

/// Reads a boolean option as defGetBoolean() does: named alone, it is on.
bool option_is_on(Nodes options, std::string_view name) {
    bool on = false;
    for (const PgQuery__Node* node : options) {
        if (node->node_case != PG_QUERY__NODE__NODE_DEF_ELEM) {
            continue;
        }
        const PgQuery__DefElem& option = *node->def_elem;
        if (!equal_ignoring_case(option.defname, name)) {
            continue;
        }
        if (option.arg == nullptr) {
            on = true;
        } else if (option.arg->node_case == PG_QUERY__NODE__NODE_INTEGER) {
            on = option.arg->integer->ival != 0;
        } else if (option.arg->node_case == PG_QUERY__NODE__NODE_BOOLEAN) {
            on = option.arg->boolean->boolval != 0;
        } else {
            const std::string_view word = string_value(option.arg);
            on = !equal_ignoring_case(word, "false") && !equal_ignoring_case(word, "off");
        }
    }
    return on;
}

bool has_option(Nodes options, std::string_view name) {
    return std::any_of(options.begin(), options.end(), [&](const PgQuery__Node* node) {
        return node->node_case == PG_QUERY__NODE__NODE_DEF_ELEM &&
               equal_ignoring_case(node->def_elem->defname, name);
    });
}

bool is_temporary(const PgQuery__RangeVar& relation) {
    return std::string_view(relation.relpersistence) == "t" ||
           std::string_view(relation.schemaname).substr(0, 7) == "pg_temp";
}

/// SELECT ... INTO; of a UNION, the leftmost branch holds it.
const PgQuery__IntoClause* into_clause(const PgQuery__SelectStmt& select) {
    const PgQuery__SelectStmt* leaf = &select;
    while (leaf->larg != nullptr) {
        leaf = leaf->larg;
    }
    return leaf->into_clause;
}

std::vector<std::string> target_columns(Nodes targets) {
    std::vector<std::string> names;
    for (const PgQuery__Node* node : targets) {
        if (node->node_case == PG_QUERY__NODE__NODE_RES_TARGET) {
            names.emplace_back(node->res_target->name);
        }
    }
    return names;
}

/// DROP names its relations by lists of words rather than by RangeVars.
void add_dropped(const PgQuery__DropStmt& drop, Statement& statement) {
    switch (drop.remove_type) {
        case PG_QUERY__OBJECT_TYPE__OBJECT_TABLE:
        case PG_QUERY__OBJECT_TYPE__OBJECT_VIEW:
        case PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW:
        case PG_QUERY__OBJECT_TYPE__OBJECT_FOREIGN_TABLE:
        case PG_QUERY__OBJECT_TYPE__OBJECT_SEQUENCE:
            break;
        default:
            return;
    }
    for (const PgQuery__Node* node : list(drop.objects, drop.n_objects)) {
        if (node->node_case != PG_QUERY__NODE__NODE_LIST || node->list->n_items == 0) {
            continue;
        }
        const Nodes words = list(node->list->items, node->list->n_items);
        RangeName name;
        name.name = string_value(words.back());
        if (words.size() > 1) {
            name.schema = string_value(words[words.size() - 2]);
        }
        statement.tables.push_back(std::move(name));
    }
    if (statement.tables.size() == 1) {
        statement.target = statement.tables.front();
    }
}

class Classifier {
   public:
    Classifier(bool modifying_with, Statement& statement)
        : modifying_with_(modifying_with), s_(statement) {}

    StatementKind kind_of(const PgQuery__Node& node) {
        using enum StatementKind;
        switch (node.node_case) {
            case PG_QUERY__NODE__NODE_SELECT_STMT:
                return select(*node.select_stmt);
            case PG_QUERY__NODE__NODE_INSERT_STMT:
                return insert_statement(*node.insert_stmt);
            case PG_QUERY__NODE__NODE_UPDATE_STMT: {
                const PgQuery__UpdateStmt& statement = *node.update_stmt;
                target(statement.relation);
                s_.returning = statement.n_returning_list > 0;
                s_.assigned = target_columns(list(statement.target_list, statement.n_target_list));
                return modifying_with_ ? write_opaque : update;
            }
            case PG_QUERY__NODE__NODE_DELETE_STMT:
                target(node.delete_stmt->relation);
                s_.returning = node.delete_stmt->n_returning_list > 0;
                return modifying_with_ ? write_opaque : erase;
            case PG_QUERY__NODE__NODE_MERGE_STMT:
                target(node.merge_stmt->relation);
                return write_opaque;
            case PG_QUERY__NODE__NODE_COPY_STMT:
                return copy(*node.copy_stmt);
            case PG_QUERY__NODE__NODE_EXPLAIN_STMT:
                return explain(*node.explain_stmt);
            case PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT:
                s_.name = lower(node.variable_show_stmt->name);
                return read;
            case PG_QUERY__NODE__NODE_TRUNCATE_STMT: {
                const PgQuery__TruncateStmt& statement = *node.truncate_stmt;
                if (statement.n_relations == 1) {
                    target(statement.relations[0]->range_var);
                }
                return truncate;
            }
            case PG_QUERY__NODE__NODE_CALL_STMT:
                return call;
            case PG_QUERY__NODE__NODE_DO_STMT:
                return anonymous_block;
            case PG_QUERY__NODE__NODE_TRANSACTION_STMT:
                return transaction(*node.transaction_stmt);
            case PG_QUERY__NODE__NODE_VARIABLE_SET_STMT:
                return setting(*node.variable_set_stmt);
            case PG_QUERY__NODE__NODE_DISCARD_STMT:
                return discard_statement(*node.discard_stmt);
            default:
                return session_statement(node);
        }
    }

   private:
    void target(const PgQuery__RangeVar* relation) {
        if (relation != nullptr) {
            s_.target = range_name(*relation);
        }
    }

    StatementKind created(const PgQuery__RangeVar* relation) {
        target(relation);
        s_.temporary = relation != nullptr && is_temporary(*relation);
        return StatementKind::ddl;
    }

    StatementKind select(const PgQuery__SelectStmt& select) {
        s_.order_by = select.n_sort_clause > 0;
        s_.limit = select.limit_count != nullptr || select.limit_offset != nullptr;
        if (const PgQuery__IntoClause* into = into_clause(select); into != nullptr) {
            const StatementKind kind = created(into->rel);
            return modifying_with_ ? StatementKind::write_opaque : kind;
        }
        return modifying_with_ ? StatementKind::write_opaque : StatementKind::read;
    }

    StatementKind insert_statement(const PgQuery__InsertStmt& statement) {
        target(statement.relation);
        s_.returning = statement.n_returning_list > 0;
        const PgQuery__OnConflictClause* conflict = statement.on_conflict_clause;
        if (conflict != nullptr &&
            conflict->action == PG_QUERY__ON_CONFLICT_ACTION__ONCONFLICT_UPDATE) {
            s_.on_conflict_update = true;
            s_.conflict_assigned =
                target_columns(list(conflict->target_list, conflict->n_target_list));
        }
        return modifying_with_ ? StatementKind::write_opaque : StatementKind::insert;
    }

    /// The statement inside another; null is taken as a read (COPY table TO).
    StatementKind inside(const PgQuery__Node* node) {
        s_.inner = node != nullptr ? kind_of(*node) : StatementKind::read;
        has_inner = true;
        return s_.inner;
    }

    StatementKind copy(const PgQuery__CopyStmt& copy) {
        s_.from_client = copy.filename[0] == '\0' && copy.is_program == 0;
        if (copy.is_from != 0) {
            target(copy.relation);
            s_.from_stdin = s_.from_client;
            return StatementKind::copy_from;
        }
        return inside(copy.query) == StatementKind::read ? StatementKind::read
                                                         : StatementKind::write_opaque;
    }

    StatementKind explain(const PgQuery__ExplainStmt& explain) {
        const StatementKind inner = inside(explain.query);
        // DECLARE CURSOR under EXPLAIN ANALYZE only runs its query.
        const bool harmless = inner == StatementKind::read || inner == StatementKind::primary_only;
        return harmless || !option_is_on(list(explain.options, explain.n_options), "analyze")
                   ? StatementKind::read
                   : StatementKind::write_opaque;
    }

    StatementKind transaction(const PgQuery__TransactionStmt& statement) {
        s_.chain = statement.chain != 0;
        s_.name = statement.savepoint_name[0] != '\0' ? statement.savepoint_name : statement.gid;
        switch (statement.kind) {
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_BEGIN:
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_START:
                return StatementKind::begin;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT:
                return StatementKind::commit;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK:
                return StatementKind::rollback;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_SAVEPOINT:
                return StatementKind::savepoint;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_RELEASE:
                return StatementKind::release;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_TO:
                return StatementKind::rollback_to;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_PREPARE:
                return StatementKind::prepare_transaction;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_COMMIT_PREPARED:
                return StatementKind::commit_prepared;
            case PG_QUERY__TRANSACTION_STMT_KIND__TRANS_STMT_ROLLBACK_PREPARED:
                return StatementKind::rollback_prepared;
            default:
                return StatementKind::primary_only;
        }
    }

    StatementKind setting(const PgQuery__VariableSetStmt& set) {
        s_.name = lower(set.name);
        s_.local = set.is_local != 0;
        if (set.kind == PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL) {
            s_.name = "all";
        }
        // These hold for the current transaction only, and the mirror's stays READ COMMITTED and
        // writable whatever the client chose. SET SESSION CHARACTERISTICS is a setting.
        const bool transaction = s_.name == "transaction" || s_.name == "transaction snapshot" ||
                                 s_.name == "transaction_isolation" ||
                                 s_.name == "transaction_read_only" ||
                                 s_.name == "transaction_deferrable";
        return transaction ? StatementKind::primary_only : StatementKind::set;
    }

    StatementKind discard_statement(const PgQuery__DiscardStmt& statement) {
        switch (statement.target) {
            case PG_QUERY__DISCARD_MODE__DISCARD_PLANS:
                s_.name = "plans";
                break;
            case PG_QUERY__DISCARD_MODE__DISCARD_SEQUENCES:
                s_.name = "sequences";
                break;
            case PG_QUERY__DISCARD_MODE__DISCARD_TEMP:
                s_.name = "temp";
                break;
            default:
                s_.name = "all";
                break;
        }
        return StatementKind::discard;
    }

    StatementKind session_statement(const PgQuery__Node& node) {
        using enum StatementKind;
        switch (node.node_case) {
            case PG_QUERY__NODE__NODE_PREPARE_STMT:
                inside(node.prepare_stmt->query);
                s_.name = node.prepare_stmt->name;
                return prepare;
            case PG_QUERY__NODE__NODE_EXECUTE_STMT:
                s_.name = node.execute_stmt->name;
                return execute;
            case PG_QUERY__NODE__NODE_DEALLOCATE_STMT:
                s_.name = node.deallocate_stmt->name;
                return deallocate;
            case PG_QUERY__NODE__NODE_DECLARE_CURSOR_STMT:
                inside(node.declare_cursor_stmt->query);
                s_.name = node.declare_cursor_stmt->portalname;
                s_.hold = (node.declare_cursor_stmt->options & cursor_opt_hold) != 0;
                return primary_only;
            case PG_QUERY__NODE__NODE_FETCH_STMT:  // MOVE as well
                s_.name = node.fetch_stmt->portalname;
                return primary_only;
            case PG_QUERY__NODE__NODE_CLOSE_PORTAL_STMT:
                s_.name = node.close_portal_stmt->portalname;
                return primary_only;
            case PG_QUERY__NODE__NODE_LISTEN_STMT:
                s_.name = node.listen_stmt->conditionname;
                return primary_only;
            case PG_QUERY__NODE__NODE_UNLISTEN_STMT:
                s_.name = node.unlisten_stmt->conditionname;
                return primary_only;
            case PG_QUERY__NODE__NODE_NOTIFY_STMT:
                s_.name = node.notify_stmt->conditionname;
                return primary_only;
            case PG_QUERY__NODE__NODE_LOCK_STMT:
            case PG_QUERY__NODE__NODE_CONSTRAINTS_SET_STMT:
            case PG_QUERY__NODE__NODE_CHECK_POINT_STMT:
            case PG_QUERY__NODE__NODE_LOAD_STMT:
                return primary_only;
            case PG_QUERY__NODE__NODE_VACUUM_STMT:
                return node.vacuum_stmt->is_vacuumcmd != 0 ? self_committing : primary_only;
            default:
                if (outside_schema_statement(node)) {
                    return refuses_transaction_block(node) ? self_committing : outside_schema;
                }
                if (refuses_transaction_block(node)) {
                    return definition(node) == ddl ? concurrent_ddl : self_committing;
                }
                return definition(node);
        }
    }

    /// Of a server, or of another connection of its, rather than of this database's schema. Large
    /// objects are data that only the primary has.
    static bool outside_schema_object(PgQuery__ObjectType type) {
        switch (type) {
            case PG_QUERY__OBJECT_TYPE__OBJECT_ROLE:
            case PG_QUERY__OBJECT_TYPE__OBJECT_DATABASE:
            case PG_QUERY__OBJECT_TYPE__OBJECT_TABLESPACE:
            case PG_QUERY__OBJECT_TYPE__OBJECT_PARAMETER_ACL:
            case PG_QUERY__OBJECT_TYPE__OBJECT_SUBSCRIPTION:
            case PG_QUERY__OBJECT_TYPE__OBJECT_LARGEOBJECT:
                return true;
            default:
                return false;
        }
    }

    static bool outside_schema_statement(const PgQuery__Node& node) {
        switch (node.node_case) {
            case PG_QUERY__NODE__NODE_CREATE_ROLE_STMT:
            case PG_QUERY__NODE__NODE_ALTER_ROLE_STMT:
            case PG_QUERY__NODE__NODE_ALTER_ROLE_SET_STMT:
            case PG_QUERY__NODE__NODE_DROP_ROLE_STMT:
            case PG_QUERY__NODE__NODE_GRANT_ROLE_STMT:
            case PG_QUERY__NODE__NODE_CREATEDB_STMT:
            case PG_QUERY__NODE__NODE_DROPDB_STMT:
            case PG_QUERY__NODE__NODE_ALTER_DATABASE_STMT:
            case PG_QUERY__NODE__NODE_ALTER_DATABASE_SET_STMT:
            case PG_QUERY__NODE__NODE_ALTER_DATABASE_REFRESH_COLL_STMT:
            case PG_QUERY__NODE__NODE_CREATE_TABLE_SPACE_STMT:
            case PG_QUERY__NODE__NODE_DROP_TABLE_SPACE_STMT:
            case PG_QUERY__NODE__NODE_ALTER_TABLE_SPACE_OPTIONS_STMT:
            case PG_QUERY__NODE__NODE_ALTER_TABLE_MOVE_ALL_STMT:
            case PG_QUERY__NODE__NODE_ALTER_SYSTEM_STMT:
            case PG_QUERY__NODE__NODE_CREATE_SUBSCRIPTION_STMT:
            case PG_QUERY__NODE__NODE_ALTER_SUBSCRIPTION_STMT:
            case PG_QUERY__NODE__NODE_DROP_SUBSCRIPTION_STMT:
                return true;
            case PG_QUERY__NODE__NODE_RENAME_STMT:
                return outside_schema_object(node.rename_stmt->rename_type);
            case PG_QUERY__NODE__NODE_ALTER_OWNER_STMT:
                return outside_schema_object(node.alter_owner_stmt->object_type);
            case PG_QUERY__NODE__NODE_COMMENT_STMT:
                return outside_schema_object(node.comment_stmt->objtype);
            case PG_QUERY__NODE__NODE_SEC_LABEL_STMT:
                return outside_schema_object(node.sec_label_stmt->objtype);
            case PG_QUERY__NODE__NODE_GRANT_STMT:
                return outside_schema_object(node.grant_stmt->objtype);
            default:
                return false;
        }
    }

    /// PreventInTransactionBlock() in PostgreSQL's utility.c and the commands it calls.
    static bool refuses_transaction_block(const PgQuery__Node& node) {
        switch (node.node_case) {
            case PG_QUERY__NODE__NODE_CREATEDB_STMT:
            case PG_QUERY__NODE__NODE_DROPDB_STMT:
            case PG_QUERY__NODE__NODE_CREATE_TABLE_SPACE_STMT:
            case PG_QUERY__NODE__NODE_DROP_TABLE_SPACE_STMT:
            case PG_QUERY__NODE__NODE_ALTER_SYSTEM_STMT:
            case PG_QUERY__NODE__NODE_CREATE_SUBSCRIPTION_STMT:  // unless create_slot = false
            case PG_QUERY__NODE__NODE_DROP_SUBSCRIPTION_STMT:
                return true;
            case PG_QUERY__NODE__NODE_ALTER_DATABASE_STMT:
                return has_option(
                    list(node.alter_database_stmt->options, node.alter_database_stmt->n_options),
                    "tablespace");
            case PG_QUERY__NODE__NODE_INDEX_STMT:
                return node.index_stmt->concurrent != 0;
            case PG_QUERY__NODE__NODE_DROP_STMT:
                return node.drop_stmt->concurrent != 0;
            case PG_QUERY__NODE__NODE_REINDEX_STMT: {
                const PgQuery__ReindexStmt& reindex = *node.reindex_stmt;
                return option_is_on(list(reindex.params, reindex.n_params), "concurrently") ||
                       (reindex.kind != PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_INDEX &&
                        reindex.kind != PG_QUERY__REINDEX_OBJECT_TYPE__REINDEX_OBJECT_TABLE);
            }
            case PG_QUERY__NODE__NODE_CLUSTER_STMT:
                return node.cluster_stmt->relation == nullptr;
            case PG_QUERY__NODE__NODE_ALTER_SUBSCRIPTION_STMT:
                switch (node.alter_subscription_stmt->kind) {
                    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_SET_PUBLICATION:
                    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_ADD_PUBLICATION:
                    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_DROP_PUBLICATION:
                    case PG_QUERY__ALTER_SUBSCRIPTION_TYPE__ALTER_SUBSCRIPTION_REFRESH:
                        return true;
                    default:
                        return false;
                }
            case PG_QUERY__NODE__NODE_ALTER_TABLE_STMT: {
                const PgQuery__AlterTableStmt& alter = *node.alter_table_stmt;
                const Nodes commands = list(alter.cmds, alter.n_cmds);
                return std::any_of(commands.begin(), commands.end(), [](const PgQuery__Node* cmd) {
                    const PgQuery__Node* def =
                        cmd->node_case == PG_QUERY__NODE__NODE_ALTER_TABLE_CMD
                            ? cmd->alter_table_cmd->def
                            : nullptr;
                    return def != nullptr && def->node_case == PG_QUERY__NODE__NODE_PARTITION_CMD &&
                           def->partition_cmd->concurrent != 0;  // DETACH ... CONCURRENTLY
                });
            }
            default:
                return false;
        }
    }

    /// Everything else defines something. What a new grammar adds lands here too: DDL is the kind
    /// that is followed by reading the catalogue again.
    StatementKind definition(const PgQuery__Node& node) {
        switch (node.node_case) {
            case PG_QUERY__NODE__NODE_CREATE_STMT:
                return created(node.create_stmt->relation);
            case PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT:
                inside(node.create_table_as_stmt->query);
                s_.target = {};
                return created(node.create_table_as_stmt->into->rel);
            case PG_QUERY__NODE__NODE_CREATE_SEQ_STMT:
                return created(node.create_seq_stmt->sequence);
            case PG_QUERY__NODE__NODE_VIEW_STMT:
                return created(node.view_stmt->view);
            case PG_QUERY__NODE__NODE_ALTER_TABLE_STMT:
                target(node.alter_table_stmt->relation);
                return StatementKind::ddl;
            case PG_QUERY__NODE__NODE_RENAME_STMT:
                target(node.rename_stmt->relation);
                return StatementKind::ddl;
            case PG_QUERY__NODE__NODE_INDEX_STMT:
                target(node.index_stmt->relation);
                return StatementKind::ddl;
            case PG_QUERY__NODE__NODE_DROP_STMT:
                add_dropped(*node.drop_stmt, s_);
                return StatementKind::ddl;
            // Where rows lie, not what they are: the mirror sees to its own.
            case PG_QUERY__NODE__NODE_REINDEX_STMT:
            case PG_QUERY__NODE__NODE_CLUSTER_STMT:
                return StatementKind::primary_only;
            default:
                return StatementKind::ddl;
        }
    }

    /// CURSOR_OPT_HOLD in nodes/parsenodes.h.
    static constexpr int cursor_opt_hold = 0x0020;

    bool modifying_with_;
    Statement& s_;

   public:
    bool has_inner = false;
};

}  // namespace

void classify(const PgQuery__Node& top, bool modifying_with, Statement& statement) {
    Classifier classifier(modifying_with, statement);
    statement.kind = classifier.kind_of(top);
    if (!classifier.has_inner) {
        statement.inner = statement.kind;
    }
    const auto* field = protobuf_c_message_descriptor_get_field(
        &pg_query__node__descriptor, static_cast<unsigned>(top.node_case));
    if (field != nullptr && field->descriptor != nullptr) {
        statement.tag =
            static_cast<const ProtobufCMessageDescriptor*>(field->descriptor)->short_name;
    }
}

}  // namespace banyan::router
