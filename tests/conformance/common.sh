# What the shell scripts share: the stage's number, and printing.
stage=1
check() { # NAME command...: its output, in one line, and its exit code if that is not 0
    local name=$1 text code
    shift
    text=$("$@" 2>&1)
    code=$?
    [ $code = 0 ] || text="$text (exit code $code)"
    printf '%s.%s: %s\n' "$stage" "$name" "${text//$'\n'/\\n}"
}
pause() {
    echo PAUSE
    read -r _
    stage=$((stage + 1))
}
compare() { # NAME
    echo COMPARE
    read -r answer
    echo "$stage.$1: $answer"
}
