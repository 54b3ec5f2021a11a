# Waits until the test binary is gone, then removes what it left: processes, mounts, files.
# $1 is the session's directory; $2 is the variable that marks the session's processes.
session=$1 mark=$2
cat >/dev/null

# Daemons and their children carry the mark. A container's own processes do not, but their root directory is a mount that
# lies in the session or is made of what does. (It is not enough that they see a mount of the session: every container in
# the making does, whoever makes it.)
session_processes() {
    {
        grep -lzsFx "$mark=$session" /proc/[0-9]*/environ
        grep -ls -e "^[^ ]* [^ ]* [^ ]* [^ ]* / .*$session/" -e "^[^ ]* [^ ]* [^ ]* $session/[^ ]* / " \
            /proc/[0-9]*/mountinfo
    } | cut -d / -f 3 | sort -u
}

# Daemons end their own children when asked; after three seconds nobody is asked any more.
for round in $(seq 100); do
    processes=$(session_processes)
    [ -n "$processes" ] || break
    case $round in
        1 | 11 | 21) kill -s TERM $processes ;;
        [3-9]? | 100) kill -s KILL $processes ;;
    esac
    sleep 0.1
done

# The last mount is unmounted first.
sed -n '1!G;h;$p' /proc/self/mounts | while read -r _ target _; do
    case $target in "$session"/*) umount --lazy "$target" ;; esac
done
rm -rf "$session"
