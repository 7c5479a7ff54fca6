// The rules of expected replies, one line each. A script is a list of words:
//   >P       a message of this kind is sent: P B E C S Q F as on the wire, D Describe of a portal,
//            T Describe of a statement, c CopyDone or CopyFail
//   1        a reply of this type comes and is expected; 1#2: it is that of the second message sent
//   ~N       it is asynchronous     !Z   it is a violation
//   .        everything was answered    r2  two ReadyForQuery are still to come
//   skip     the server ignores messages up to Sync     copy   it reads copy data, and swallows Sync
//   fell#3   the third message sent fell because of an error before it (and was told so)
//   plain / handled   the front's rows may / may not be streamed to the client
#include "router/session/reply_queue.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>
#include <string>

namespace banyan::router {
namespace {

class Script {
   public:
    void run(const std::string& name, const std::string& words) {
        std::istringstream stream(words);
        std::string word;
        while (stream >> word) {
            SCOPED_TRACE(name + ", at '" + word + "' of: " + words);
            step(word);
        }
    }

   private:
    void step(const std::string& word) {
        static const std::map<char, Expect> kinds = {
            {'P', Expect::parse},          {'B', Expect::bind},
            {'D', Expect::describe_portal}, {'T', Expect::describe_statement},
            {'E', Expect::execute},        {'C', Expect::close},
            {'S', Expect::sync},           {'Q', Expect::query},
            {'F', Expect::function_call},  {'c', Expect::copy_end}};
        if (word[0] == '>') {
            const int number = ++sent_;
            const auto sink = on_reply([this, number](char type, std::string_view,
                                                      std::string_view) {
                last_ = number;
                if (type == 0) {
                    fallen_.insert(number);
                }
            });
            queue_.push(kinds.at(word[1]), sink);
        } else if (word == ".") {
            EXPECT_TRUE(queue_.empty());
            EXPECT_EQ(queue_.ready_pending(), 0U);
        } else if (word[0] == 'r') {
            EXPECT_EQ(queue_.ready_pending(), static_cast<std::size_t>(word[1] - '0'));
        } else if (word == "skip" || word == "noskip") {
            EXPECT_EQ(queue_.skipping(), word == "skip");
        } else if (word == "copy" || word == "nocopy") {
            EXPECT_EQ(queue_.copying_in(), word == "copy");
        } else if (word.starts_with("fell#")) {
            EXPECT_EQ(fallen_.count(word[5] - '0'), 1U);
        } else if (word[0] == '~') {
            EXPECT_EQ(queue_.explain(word[1]).verdict, ReplyQueue::Verdict::asynchronous);
        } else if (word[0] == '!') {
            EXPECT_EQ(queue_.explain(word[1]).verdict, ReplyQueue::Verdict::violation);
        } else {
            expected(word);
        }
    }

    void expected(const std::string& word) {
        const auto explained = queue_.explain(word[0]);
        ASSERT_EQ(explained.verdict, ReplyQueue::Verdict::expected);
        ASSERT_NE(explained.handler, nullptr);
        explained.handler->reply(word[0], {}, {});
        if (word.size() > 2) {
            EXPECT_EQ(last_, word[2] - '0') << "answered another message";
        }
    }

    ReplyQueue queue_;
    int sent_ = 0;
    int last_ = 0;
    std::set<int> fallen_;
};

struct Case {
    const char* name;
    const char* script;
};

void run_all(const std::vector<Case>& cases) {
    for (const auto& each : cases) {
        Script().run(each.name, each.script);
    }
}

TEST(ReplyQueue, EveryMessageIsAnsweredByItsOwnReplies) {
    run_all({
        {"Parse", ">P 1#1 ."},
        {"Bind", ">B 2#1 ."},
        {"Close", ">C 3#1 ."},
        {"Sync", ">S r1 Z#1 ."},
        {"Describe of a portal with rows", ">D T#1 ."},
        {"Describe of a portal without", ">D n#1 ."},
        {"Describe of a statement with rows", ">T t#1 T#1 ."},
        {"Describe of a statement without", ">T t#1 n#1 ."},
        {"Execute with rows", ">E D#1 D#1 C#1 ."},
        {"Execute of an empty statement", ">E I#1 ."},
        {"Execute with a row limit", ">E D#1 s#1 ."},
        {"Query", ">Q T#1 D#1 C#1 Z#1 ."},
        {"Query of several statements", ">Q C T D C I Z#1 ."},
        {"empty Query", ">Q I#1 Z#1 ."},
        {"FunctionCall", ">F r1 V#1 Z#1 ."},
        {"COPY to the client, simple", ">Q H#1 d#1 d#1 c#1 C#1 Z#1 ."},
        {"COPY to the client, extended", ">E H#1 d#1 c#1 C#1 ."},
    });
}

TEST(ReplyQueue, PipelinesAreAnsweredInOrder) {
    run_all({
        {"three statements before one Sync",
         ">P >B >E >P >B >E >B >E >S 1#1 2#2 D#3 C#3 1#4 2#5 C#6 2#7 C#8 Z#9 ."},
        {"several Syncs in flight",
         ">P >S >B >S >E >S r3 1#1 Z#2 r2 2#3 Z#4 C#5 Z#6 r0 ."},
        {"simple queries in flight", ">Q >Q >Q r3 C#1 Z#1 C#2 Z#2 C#3 Z#3 ."},
        {"answers arrive while more is sent", ">P 1#1 >B >E 2#2 >S C#3 Z#4 ."},
        {"more than the ring held at first",
         ">P >P >P >P >P >P >P >P >P >B 1#1 1#2 1#3 1#4 1#5 1#6 1#7 1#8 1#9 2 ."},
        {"round the ring's end",
         ">P >P >P >P >P 1 1 1 1 1 >P >P >P >P >P >B 1#6 1#7 1#8 1#9 1 2 ."},
    });
}

TEST(ReplyQueue, AnErrorDropsEverythingUpToSync) {
    run_all({
        {"in Parse", ">P >B >E >S E#1 fell#2 fell#3 noskip Z#4 ."},
        {"in Execute, behind rows", ">B >E >B >E >S 2#1 D#2 E#2 fell#3 fell#4 Z#5 ."},
        {"in a Describe half answered", ">T >B >S t#1 E#1 fell#2 Z#3 ."},
        {"only up to the first of two Syncs", ">P >S >P >S E#1 Z#2 1#3 Z#4 ."},
        {"before Sync was sent: what follows falls too", ">P E#1 skip >B fell#2 >E fell#3 >S noskip "
                                                          "Z#4 ."},
        {"a Query behind it is ignored too", ">P E#1 skip >Q fell#2 >S Z#3 ."},
        {"no reply of a fallen one is explained", ">P >B >S E#1 !2"},
        {"a second error before Sync", ">P >B >S E#1 E#3 Z#3 ."},
    });
}

TEST(ReplyQueue, AnErrorInASimpleQueryDropsNothing) {
    run_all({
        {"the next Query stands", ">Q >Q E#1 Z#1 C#2 Z#2 ."},
        {"so does a pipeline", ">Q >P >S E#1 noskip Z#1 1#2 Z#3 ."},
        {"in a FunctionCall", ">F >P >S E#1 Z#1 1#2 Z#3 ."},
        {"of a commit at Sync", ">P >S >P >S 1#1 E#2 Z#2 1#3 Z#4 ."},
        {"a Query ends once", ">Q E#1 Z#1 !Z"},
    });
}

TEST(ReplyQueue, CopyInSwallowsASyncThatComesEarly) {
    run_all({
        // tokio-postgres sends Sync behind Execute, before its data.
        {"Sync already sent when the copy begins", ">E >S >c >S G nocopy r1 C#1 Z#4 ."},
        {"Sync sent during the copy", ">E G copy >S r0 >c >S C#1 Z#4 ."},
        {"two of them", ">E >S >S >c >S G r1 C#1 Z#5 ."},
        {"the copy fails before it begins: that Sync is answered",
         ">E >S >c >S E#1 Z#2 nocopy Z#4 ."},
        {"the copy fails in the middle", ">E >S G copy >c >S E#1 nocopy Z#4 ."},
        {"no early Sync", ">E G >c >S C#1 Z#3 ."},
        {"libpq: CopyDone and Sync before any answer", ">P >B >E >c >S 1#1 2#2 G C#3 Z#5 ."},
        {"simple: no Sync is needed", ">Q G copy >c C#1 Z#1 ."},
        {"simple, failing", ">Q G >c E#1 nocopy Z#1 ."},
        {"two copies in one Query", ">Q G >c C#1 nocopy G copy >c C#1 Z#1 ."},
        {"two copies, the data of both sent ahead", ">Q G >c >c >S C#1 G C#1 Z#1 Z#4 ."},
        {"messages behind the copy stand", ">E >S >c >S >P >S G C#1 Z#4 1#5 Z#6 ."},
        {"CopyDone while nothing runs is ignored", ">c . >P >S 1#2 Z#3 ."},
        {"CopyDone behind a copy that failed early", ">Q >c E#1 Z#1 . >P >c 1#3 ."},
        {"a copy within a copy", ">E G !G"},
        // CopyGetData refuses any other message, and the message itself is lost.
        {"a Query during the copy ends it", ">Q G >Q fell#2 E#1 Z#1 . >Q C#3 Z#3 ."},
        {"a Parse during the copy ends it", ">E G >P fell#2 E#1 skip >S Z#3 ."},
        {"a Parse already sent when it begins", ">E >S >P >B >S G fell#3 E#1 fell#4 Z#5 ."},
    });
}

TEST(ReplyQueue, AsynchronousMessagesChangeNothing) {
    run_all({
        {"while idle", "~N ~S ~A ."},
        {"between replies", ">Q ~N T#1 ~S D#1 ~A C#1 ~N Z#1 ~N ."},
        {"between ParameterDescription and RowDescription", ">T t ~N T ."},
        {"an error while idle: FATAL, the administrator", "~E ."},
    });
}

TEST(ReplyQueue, WhatNothingExplainsIsAViolation) {
    run_all({
        {"ReadyForQuery out of nowhere", "!Z"},
        {"a row out of nowhere", "!D"},
        {"a completion out of nowhere", "!C"},
        {"ParseComplete for a Bind", ">B !1"},
        {"BindComplete for a Parse", ">P !2"},
        {"CloseComplete for a Bind", ">B !3"},
        {"a row for a Sync", ">S !D"},
        {"a completion for a Sync", ">S !C"},
        {"ReadyForQuery for an Execute", ">E !Z"},
        {"a second completion", ">E >S C#1 !C"},
        {"RowDescription before ParameterDescription", ">T !T"},
        {"NoData before ParameterDescription", ">T !n"},
        {"ParameterDescription twice", ">T t !t"},
        {"ParameterDescription for a portal", ">D !t"},
        {"RowDescription for an Execute", ">E !T"},
        {"NoData for a Query", ">Q !n"},
        {"a suspended portal for a Query", ">Q !s"},
        {"ParseComplete during a Query", ">Q !1"},
        {"copy-in without a statement", ">P !G"},
        {"copy data without a statement", ">P !d"},
        {"a function's value for a Query", ">Q !V"},
        {"authentication after the login", ">Q !R"},
        {"a key after the login", ">Q !K"},
        {"a message nobody knows", ">Q !?"},
    });
}

TEST(ReplyQueue, OnlyRowsNobodyWantsAreStreamed) {
    ReplyQueue queue;
    EXPECT_FALSE(queue.front_is_plain());
    queue.push(Expect::parse);
    EXPECT_FALSE(queue.front_is_plain());
    queue.explain('1');
    queue.push(Expect::execute);
    EXPECT_TRUE(queue.front_is_plain());
    queue.explain('C');
    queue.push(Expect::execute, on_reply([](char, std::string_view, std::string_view) {}));
    EXPECT_FALSE(queue.front_is_plain());
}

}  // namespace
}  // namespace banyan::router
