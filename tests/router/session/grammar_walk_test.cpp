// Nothing of PostgreSQL 15's grammar is without a decided kind and route: every statement, every
// variant that the grammar's own enumerations name.
#include <gtest/gtest.h>
#include <pg_query/pg_query.pb-c.h>

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "router/sql/tree.hpp"
#include "tests/router/session/statement_examples.hpp"
#include "tests/router/sql/sample_catalog.hpp"

namespace banyan::router {
namespace {

const Catalog& walk_catalog() {
    static const Catalog made = [] {
        Catalog catalog;
        Oid oid = 1;
        for (const char* name : {"t", "u"}) {
            catalog.add_table(std::make_shared<const Table>(table(oid, name, {"a", "b"})));
            catalog.grant_select("app", oid++);
        }
        catalog.add_other_relation("public", "v", 'v');
        catalog.add_volatile_function("touch");
        return catalog;
    }();
    return made;
}

RouteContext walk_context() {
    static const std::vector<std::string> search_path = {"public"};
    static const std::vector<std::string> temporary_tables = {"scratch"};
    static const std::string role = "app";
    RouteContext context;
    context.catalog = &walk_catalog();
    context.search_path = &search_path;
    context.temporary_tables = &temporary_tables;
    context.role = &role;
    return context;
}

Decision route_of(const std::string& sql, DdlPolicy ddl = DdlPolicy::mirror,
                  bool schema_changed = false) {
    const auto query = parse_query(sql);
    EXPECT_TRUE(query->parsed) << sql;
    RouteContext context = walk_context();
    context.ddl = ddl;
    context.schema_changed = schema_changed;
    return decide(*query, query->statements.at(0), context);
}

TEST(GrammarWalk, EachExampleHasTheKindAndTheRouteDecidedForIt) {
    for (const auto& each : statement_examples) {
        SCOPED_TRACE(each.sql);
        const auto query = parse_query(each.sql);
        ASSERT_TRUE(query->parsed) << query->error;
        ASSERT_EQ(query->statements.size(), 1U);
        const Statement& statement = query->statements[0];
        EXPECT_EQ(to_string(statement.kind), to_string(each.kind));
        EXPECT_EQ(statement.begin, 0U);
        EXPECT_EQ(statement.end, query->sql.size());
        EXPECT_EQ(static_cast<int>(route_of(each.sql).route), static_cast<int>(each.route));
    }
}

// What does not reach the mirror as it is makes its tables suspect or is counted by a reason.
TEST(GrammarWalk, WhatIsNotMirroredByRowHasAReason) {
    for (const auto& each : statement_examples) {
        SCOPED_TRACE(each.sql);
        const Decision decision = route_of(each.sql);
        switch (decision.route) {
            case Route::guarded:
                EXPECT_TRUE(decision.measure || !decision.suspects.empty());
                EXPECT_NE(decision.reason, "");
                break;
            case Route::mirrored_text:
                EXPECT_TRUE(decision.measure || !decision.suspects.empty() ||
                            !decision.tables.empty());
                EXPECT_EQ(decision.reason.empty(), !decision.tables.empty());
                break;
            case Route::copy:
                EXPECT_FALSE(decision.tables.empty());
                break;
            case Route::suspect:
                EXPECT_TRUE(decision.reload_catalog || !decision.suspects.empty());
                EXPECT_NE(decision.reason, "");
                break;
            case Route::forward:
                EXPECT_EQ(decision.reason, each.kind == outside_schema ||
                                                   (each.kind == self_committing &&
                                                    route_of(each.sql).reason != "")
                                               ? "outside_schema"
                                               : "");
                break;
            default:
                break;
        }
    }
}

// Deep capture takes its records behind the statement, a cursor's query runs later.
TEST(GrammarWalk, ACursorIsMeasuredToTheEndOfItsTransaction) {
    Catalog deep = walk_catalog();
    Table recorded = table(9, "recorded", {"a"});
    recorded.deep = true;
    deep.add_table(std::make_shared<const Table>(recorded));
    ASSERT_TRUE(deep.deep());
    RouteContext context = walk_context();
    context.catalog = &deep;
    const auto query = parse_query("DECLARE c CURSOR FOR SELECT touch()");
    const Decision decision = decide(*query, query->statements.at(0), context);
    EXPECT_TRUE(decision.measure);
    EXPECT_FALSE(decision.deep);
}

bool about_temporary(std::string_view sql) {
    return sql.find("TEMP ") != std::string_view::npos ||
           sql.find("scratch") != std::string_view::npos;
}

TEST(GrammarWalk, ThePolicyHoldsForEveryChangeOfTheSchemaAndForNothingElse) {
    for (const auto& each : statement_examples) {
        SCOPED_TRACE(each.sql);
        const std::string_view sql = each.sql;
        const bool change = (each.kind == ddl || each.kind == concurrent_ddl) &&
                            !about_temporary(sql) && !sql.starts_with("REFRESH");
        const Decision refused = route_of(each.sql, DdlPolicy::refuse);
        EXPECT_EQ(refused.route == Route::refuse, change);
        const Decision alone = route_of(each.sql, DdlPolicy::primary_only);
        if (!change) {
            EXPECT_EQ(static_cast<int>(refused.route), static_cast<int>(each.route));
            EXPECT_EQ(static_cast<int>(alone.route), static_cast<int>(each.route));
        } else {
            EXPECT_TRUE(alone.route == Route::guarded || alone.route == Route::suspect);
            EXPECT_TRUE(alone.reload_catalog);
        }
    }
}

TEST(GrammarWalk, ChangesOfTheSchemaReadTheCatalogueAgain) {
    for (const auto& each : statement_examples) {
        SCOPED_TRACE(each.sql);
        const bool change = (each.kind == ddl || each.kind == concurrent_ddl) &&
                            !about_temporary(each.sql);
        EXPECT_EQ(route_of(each.sql).reload_catalog, change);
    }
}

// The catalogue is older than the transaction: a RETURNING of columns that are gone would fail.
TEST(GrammarWalk, NothingIsCapturedBehindAChangeOfTheSchema) {
    for (const auto& each : statement_examples) {
        SCOPED_TRACE(each.sql);
        const Decision decision = route_of(each.sql, DdlPolicy::mirror, true);
        EXPECT_EQ(static_cast<int>(decision.route),
                  static_cast<int>(each.route == Route::capture || each.route == Route::copy
                                       ? Route::guarded
                                       : each.route));
        EXPECT_TRUE(decision.tables.empty());
    }
    const Decision decision = route_of("INSERT INTO t VALUES (1)", DdlPolicy::mirror, true);
    ASSERT_EQ(decision.suspects.size(), 1U);
    EXPECT_EQ(decision.suspects[0].table, 1U);
    EXPECT_EQ(route_of("INSERT INTO scratch VALUES (1)", DdlPolicy::mirror, true).route,
              Route::forward);
}

TEST(GrammarWalk, WhatCannotBeReadIsMeasured) {
    const std::string nested = "SELECT " + std::string(std::size_t{1} << 20U, '(');
    for (const std::string& sql :
         {std::string("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE RETURNING t.a"),
          std::string("SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a int PATH '$'))"),
          std::string("this is not SQL"), nested, nested.substr(0, 500'000)}) {
        const auto query = parse_query(sql);
        EXPECT_FALSE(query->parsed) << sql.substr(0, 80);
        EXPECT_NE(query->error, "");
    }
    const Decision decision = decide_unparsed(nullptr);
    EXPECT_EQ(decision.route, Route::guarded);
    EXPECT_TRUE(decision.measure);
}

// --- the walk ---

/// "AlterTableCmd.subtype" and the like to the names of the values that a tree has there.
using Variants = std::map<std::string, std::set<std::string>>;

void collect_variants(const ProtobufCMessage& message, Variants& variants) {
    for (unsigned i = 0; i < message.descriptor->n_fields; ++i) {
        const ProtobufCFieldDescriptor& field = message.descriptor->fields[i];
        if (field.type == PROTOBUF_C_TYPE_ENUM && field.label != PROTOBUF_C_LABEL_REPEATED) {
            int value = 0;
            std::memcpy(&value, reinterpret_cast<const char*>(&message) + field.offset,
                        sizeof value);
            const auto* type = static_cast<const ProtobufCEnumDescriptor*>(field.descriptor);
            const auto* named = protobuf_c_enum_descriptor_get_value(type, value);
            variants[std::string(message.descriptor->short_name) + "." + field.name].insert(
                named != nullptr ? named->name : "?");
        }
    }
    for_each_field(message, [&](const ProtobufCFieldDescriptor&, ProtobufCMessage& child) {
        collect_variants(child, variants);
    });
}

const Variants& seen_variants() {
    static const Variants seen = [] {
        Variants variants;
        for (const auto& each : statement_examples) {
            const ParseTree tree = parse_tree(each.sql);
            EXPECT_NE(tree.root, nullptr) << each.sql;
            if (tree.root != nullptr) {
                collect_variants(tree.root->base, variants);
            }
        }
        return variants;
    }();
    return seen;
}

TEST(GrammarWalk, EveryStatementNodeHasAnExample) {
    // What no client's text can make at the top, and why.
    const std::map<std::string, std::string> inner = {
        {"RawStmt", "wraps every statement"},
        {"SetOperationStmt", "made by the analyser; as text a SelectStmt"},
        {"ReturnStmt", "the body of a SQL function"},
        {"PLAssignStmt", "PL/pgSQL's"},
        {"ReplicaIdentityStmt", "a part of ALTER TABLE"},
    };
    std::set<std::string> seen;
    for (const auto& each : statement_examples) {
        const auto query = parse_query(each.sql);
        if (!query->statements.empty()) {
            seen.insert(query->statements[0].tag);
        }
    }
    std::size_t statements = 0;
    for (unsigned i = 0; i < pg_query__node__descriptor.n_fields; ++i) {
        const auto* kind = static_cast<const ProtobufCMessageDescriptor*>(
            pg_query__node__descriptor.fields[i].descriptor);
        const std::string name = kind->short_name;
        if (!name.ends_with("Stmt") || inner.contains(name)) {
            continue;
        }
        ++statements;
        EXPECT_TRUE(seen.contains(name)) << name << " has no example";
    }
    EXPECT_GT(statements, 100U);
}

struct Walk {
    const char* field;
    const ProtobufCEnumDescriptor* type;
    const char* prefix;
    /// Values that no syntax puts there: parts of other commands' objects, commands of their own
    /// (DROP ROLE is no DropStmt), or PostgreSQL's own work behind the parser. Without the prefix.
    const char* never = "";
};

TEST(GrammarWalk, EveryVariantOfAStatementHasAnExample) {
    const auto* objects = &pg_query__object_type__descriptor;
    const Walk walks[] = {
        {"TransactionStmt.kind", &pg_query__transaction_stmt_kind__descriptor, ""},
        {"VariableSetStmt.kind", &pg_query__variable_set_kind__descriptor, ""},
        {"DiscardStmt.target", &pg_query__discard_mode__descriptor, ""},
        {"ReindexStmt.kind", &pg_query__reindex_object_type__descriptor, ""},
        {"AlterSubscriptionStmt.kind", &pg_query__alter_subscription_type__descriptor, ""},
        {"AlterTSConfigurationStmt.kind", &pg_query__alter_tsconfig_type__descriptor, ""},
        {"AlterPublicationStmt.action", &pg_query__alter_publication_action__descriptor, ""},
        {"CreateRoleStmt.stmt_type", &pg_query__role_stmt_type__descriptor, ""},
        {"GrantStmt.targtype", &pg_query__grant_target_type__descriptor, ""},
        {"OnConflictClause.action", &pg_query__on_conflict_action__descriptor, "ONCONFLICT_", "NONE"},
        {"AlterTableCmd.subtype", &pg_query__alter_table_type__descriptor, "AT_",
         "AddColumnRecurse AddColumnToView CookedColumnDefault CheckNotNull "
         "DropColumnRecurse AddIndex ReAddIndex AddConstraintRecurse ReAddConstraint "
         "ReAddDomainConstraint ValidateConstraintRecurse AddIndexConstraint "
         "DropConstraintRecurse ReAddComment ReplaceRelOptions ReAddStatistics"},
        {"DropStmt.remove_type", objects, "OBJECT_",
         "AMOP AMPROC ATTRIBUTE COLUMN DATABASE DEFAULT DEFACL DOMCONSTRAINT LARGEOBJECT "
         "PARAMETER_ACL PUBLICATION_NAMESPACE PUBLICATION_REL ROLE SUBSCRIPTION "
         "TABCONSTRAINT TABLESPACE USER_MAPPING"},
        {"RenameStmt.rename_type", objects, "OBJECT_",
         "ACCESS_METHOD AMOP AMPROC CAST DEFAULT DEFACL EXTENSION LARGEOBJECT OPERATOR "
         "PARAMETER_ACL PUBLICATION_NAMESPACE PUBLICATION_REL TRANSFORM USER_MAPPING"},
        {"AlterOwnerStmt.object_type", objects, "OBJECT_",
         "ACCESS_METHOD AMOP AMPROC ATTRIBUTE CAST COLUMN DEFAULT DEFACL DOMCONSTRAINT "
         "EXTENSION FOREIGN_TABLE INDEX MATVIEW PARAMETER_ACL POLICY "
         "PUBLICATION_NAMESPACE PUBLICATION_REL ROLE RULE SEQUENCE TABCONSTRAINT TABLE "
         "TRANSFORM TRIGGER TSPARSER TSTEMPLATE USER_MAPPING VIEW"},
        {"CommentStmt.objtype", objects, "OBJECT_",
         "AMOP AMPROC ATTRIBUTE DEFAULT DEFACL PARAMETER_ACL PUBLICATION_NAMESPACE "
         "PUBLICATION_REL USER_MAPPING"},
        {"GrantStmt.objtype", objects, "OBJECT_",
         "ACCESS_METHOD AGGREGATE AMOP AMPROC ATTRIBUTE CAST COLUMN COLLATION CONVERSION "
         "DEFAULT DEFACL DOMCONSTRAINT EVENT_TRIGGER EXTENSION FOREIGN_TABLE INDEX "
         "MATVIEW OPCLASS OPERATOR OPFAMILY POLICY PUBLICATION PUBLICATION_NAMESPACE "
         "PUBLICATION_REL ROLE RULE SUBSCRIPTION STATISTIC_EXT TABCONSTRAINT TRANSFORM "
         "TRIGGER TSCONFIGURATION TSDICTIONARY TSPARSER TSTEMPLATE USER_MAPPING VIEW"},
        {"DefineStmt.kind", objects, "OBJECT_",
         "ACCESS_METHOD AMOP AMPROC ATTRIBUTE CAST COLUMN CONVERSION DATABASE DEFAULT "
         "DEFACL DOMAIN DOMCONSTRAINT EVENT_TRIGGER EXTENSION FDW FOREIGN_SERVER "
         "FOREIGN_TABLE FUNCTION INDEX LANGUAGE LARGEOBJECT MATVIEW OPCLASS OPFAMILY "
         "PARAMETER_ACL POLICY PROCEDURE PUBLICATION PUBLICATION_NAMESPACE "
         "PUBLICATION_REL ROLE ROUTINE RULE SCHEMA SEQUENCE SUBSCRIPTION STATISTIC_EXT "
         "TABCONSTRAINT TABLE TABLESPACE TRANSFORM TRIGGER USER_MAPPING VIEW"},
        {"AlterTableStmt.objtype", objects, "OBJECT_",
         "ACCESS_METHOD AGGREGATE AMOP AMPROC ATTRIBUTE CAST COLUMN COLLATION CONVERSION "
         "DATABASE DEFAULT DEFACL DOMAIN DOMCONSTRAINT EVENT_TRIGGER EXTENSION FDW "
         "FOREIGN_SERVER FUNCTION LANGUAGE LARGEOBJECT OPCLASS OPERATOR OPFAMILY "
         "PARAMETER_ACL POLICY PROCEDURE PUBLICATION PUBLICATION_NAMESPACE "
         "PUBLICATION_REL ROLE ROUTINE RULE SCHEMA SUBSCRIPTION STATISTIC_EXT "
         "TABCONSTRAINT TABLESPACE TRANSFORM TRIGGER TSCONFIGURATION TSDICTIONARY "
         "TSPARSER TSTEMPLATE USER_MAPPING"},
        {"AlterObjectSchemaStmt.object_type", objects, "OBJECT_",
         "ACCESS_METHOD AMOP AMPROC ATTRIBUTE CAST COLUMN DATABASE DEFAULT DEFACL "
         "DOMCONSTRAINT EVENT_TRIGGER FDW FOREIGN_SERVER INDEX LANGUAGE LARGEOBJECT "
         "PARAMETER_ACL POLICY PUBLICATION PUBLICATION_NAMESPACE PUBLICATION_REL ROLE "
         "RULE SCHEMA SUBSCRIPTION TABCONSTRAINT TABLESPACE TRANSFORM TRIGGER "
         "USER_MAPPING"},
    };
    for (const Walk& walk : walks) {
        const auto found = seen_variants().find(walk.field);
        ASSERT_NE(found, seen_variants().end()) << walk.field;
        for (unsigned i = 0; i < walk.type->n_values; ++i) {
            const std::string value = walk.type->values[i].name;
            if (value.find("UNDEFINED") != std::string::npos) {
                continue;
            }
            const bool never = (" " + std::string(walk.never) + " ")
                                   .find(" " + value.substr(std::strlen(walk.prefix)) + " ") !=
                               std::string::npos;
            EXPECT_NE(found->second.contains(value), never) << walk.field << " " << value;
        }
    }
}

}  // namespace
}  // namespace banyan::router
