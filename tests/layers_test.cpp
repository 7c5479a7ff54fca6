// The shape of the tree, checked: which folder may include which, what pure code keeps away from,
// and habits that a compiler would not notice.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;

struct File {
    std::string path;  ///< from the root of the tree
    std::string text;
};

bool has_extension(const std::string& path, const std::vector<std::string>& extensions) {
    return std::any_of(extensions.begin(), extensions.end(),
                       [&](const std::string& each) { return path.ends_with(each); });
}

/// Every file of the tree that people write; built and foreign things left out.
const std::vector<File>& tree() {
    static const std::vector<File> files = [] {
        const fs::path root = BANYAN_SOURCE_DIR;
        std::vector<File> found;
        for (auto at = fs::recursive_directory_iterator(root);
             at != fs::recursive_directory_iterator(); ++at) {
            const auto name = at->path().filename().string();
            if (at->is_directory() &&
                (name == ".git" || name == "build" || name == "__pycache__" ||
                 name == ".pytest_cache" || name == "node_modules" || name == "corpus")) {
                at.disable_recursion_pending();
                continue;
            }
            if (!at->is_regular_file()) {
                continue;
            }
            std::ifstream in(at->path(), std::ios::binary);
            found.push_back({fs::relative(at->path(), root).generic_string(),
                             {std::istreambuf_iterator<char>(in), {}}});
        }
        return found;
    }();
    return files;
}

std::vector<File> sources(std::string_view folder = "") {
    std::vector<File> found;
    for (const auto& file : tree()) {
        if (file.path.starts_with(folder) && has_extension(file.path, {".cpp", ".hpp"})) {
            found.push_back(file);
        }
    }
    return found;
}

/// What a file includes, without quotes and brackets.
std::vector<std::string> includes(const std::string& text) {
    constexpr std::string_view directive = "#include ";
    std::vector<std::string> found;
    std::size_t at = 0;
    while (at < text.size()) {
        const auto end = std::min(text.find('\n', at), text.size());
        const auto line = std::string_view(text).substr(at, end - at);
        if (line.starts_with(directive) && line.size() > directive.size() + 2) {
            const auto rest = line.substr(directive.size() + 1);
            found.emplace_back(rest.substr(0, rest.find_first_of("\">")));
        }
        at = end + 1;
    }
    return found;
}

/// Code with comments and the insides of literals blanked.
std::string code_only(const std::string& text) {
    std::string code = text;
    char within = 0;  // '/' a line comment, '*' a block comment, or the quote of a literal
    for (std::size_t i = 0; i < code.size(); ++i) {
        const char next = i + 1 < code.size() ? text[i + 1] : '\0';
        if (within == 0) {
            if (text[i] == '/' && (next == '/' || next == '*')) {
                within = next;
            } else if (text[i] == '"' || (text[i] == '\'' && (i == 0 || !isalnum(text[i - 1])))) {
                within = text[i];
            }
            continue;
        }
        const bool ends = within == '/'   ? text[i] == '\n'
                          : within == '*' ? text[i] == '*' && next == '/'
                                          : text[i] == within;
        if ((within == '"' || within == '\'') && text[i] == '\\') {
            code[i] = ' ';
            ++i;
        }
        if (ends) {
            within = 0;
        } else if (i < code.size() && text[i] != '\n') {
            code[i] = ' ';
        }
    }
    return code;
}

/// co_await expressions that hold a brace or a lambda: g++ 12 destroys their temporaries twice.
std::vector<std::string> dangerous_awaits(const std::string& text) {
    const std::string code = code_only(text);
    std::vector<std::string> found;
    for (auto at = code.find("co_await"); at != std::string::npos;
         at = code.find("co_await", at + 1)) {
        int depth = 0;
        for (std::size_t i = at; i < code.size() && code[i] != ';'; ++i) {
            depth += code[i] == '(' ? 1 : code[i] == ')' ? -1 : 0;
            if (depth < 0) {
                break;  // the condition of an if or a loop
            }
            if (code[i] == '{' || code[i] == '[') {
                found.push_back(text.substr(at, i - at + 1));
                break;
            }
        }
    }
    return found;
}

TEST(Layers, TheTreeIsFoundAtAll) {
    EXPECT_GT(sources("protocol/").size(), 4U);
    EXPECT_GT(sources("router/").size(), 50U);
    EXPECT_GT(sources("proxy/").size(), 4U);
    EXPECT_GT(sources("admin/").size(), 4U);
}

TEST(Layers, IncludesRunDownwardsOnly) {
    struct Rule {
        const char* folder;
        std::vector<std::string> forbidden;
    };
    const Rule rules[] = {
        {"protocol/", {"router/", "proxy/", "admin/", "tests/"}},
        {"router/", {"proxy/", "admin/", "tests/"}},
        {"proxy/", {"admin/", "tests/"}},
        {"admin/", {"proxy/", "tests/"}},
    };
    for (const auto& rule : rules) {
        for (const auto& file : sources(rule.folder)) {
            if (file.path == "proxy/main.cpp") {
                continue;  // the one place that sees both
            }
            for (const auto& include : includes(file.text)) {
                for (const auto& folder : rule.forbidden) {
                    EXPECT_FALSE(include.starts_with(folder)) << file.path << " includes " << include;
                }
            }
        }
    }
}

TEST(Layers, PureCodeSeesNeitherSocketsNorThreadsNorLogs) {
    for (const auto* folder : {"protocol/", "router/session/", "router/sql/", "router/model/"}) {
        for (const auto& file : sources(folder)) {
            for (const auto& include : includes(file.text)) {
                for (const auto* kind : {"sys/", "boost/asio", "libpq", "thread", "mutex", "spdlog",
                                         "condition_variable", "iostream", "fstream"}) {
                    EXPECT_FALSE(include.starts_with(kind)) << file.path << " includes " << include;
                }
            }
        }
    }
}

TEST(Layers, NoAwaitHoldsABraceOrALambda) {
    for (const auto& file : sources()) {
        for (const auto& await : dangerous_awaits(file.text)) {
            ADD_FAILURE() << file.path << ": " << await;
        }
    }
    // A check that cannot fail checks nothing.
    const std::string word = "co_await ";
    EXPECT_EQ(dangerous_awaits(word + "f(Options{1});").size(), 1U);
    EXPECT_EQ(dangerous_awaits(word + "f({.n = 3});").size(), 1U);
    EXPECT_EQ(dangerous_awaits(word + "[x] { return x; }();").size(), 1U);
    EXPECT_EQ(dangerous_awaits("if (" + word + "f(1)) { g(); }").size(), 0U);
    EXPECT_EQ(dangerous_awaits(word + "f(\"{\");  // {").size(), 0U);
}

TEST(Layers, TheTreeStandsOnItsOwn) {
    const std::string outside = std::string("..") + "/shared";
    const std::string there = std::string("/work") + "/";
    for (const auto& file : tree()) {
        EXPECT_EQ(file.text.find(outside), std::string::npos) << file.path;
        EXPECT_EQ(file.text.find(there), std::string::npos) << file.path;
    }
}

TEST(Layers, FilesStayShortEnoughToRead) {
    for (const auto& file : tree()) {
        if (has_extension(file.path, {".cpp", ".hpp", ".py", ".js", ".sh"})) {
            const auto lines = std::count(file.text.begin(), file.text.end(), '\n');
            EXPECT_LE(lines, 600) << file.path << ": split it by idea";
        }
    }
}

}  // namespace
