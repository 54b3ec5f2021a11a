# Waits until the test binary is gone, then removes what it left: processes, mounts, files.
# $1 is the session's directory; $2 is the variable that marks the session's processes.
session=$1 mark=$2
cat >/dev/null

# Daemons and their children carry the mark. A container's own processes do not; they live in another mount
# namespace whose root lies below the session.
here=$(readlink /proc/self/ns/mnt)
session_processes() {
    for process in /proc/[0-9]*; do
        if grep -qzsFx "$mark=$session" "$process/environ"; then
            echo "${process#/proc/}"
        elif grep -qsF "$session/" "$process/mountinfo" && [ "$(readlink "$process/ns/mnt")" != "$here" ]; then
            echo "${process#/proc/}"
        fi
    done
}

# Daemons end their own children when asked; after five seconds nobody is asked any more.
for round in $(seq 100); do
    processes=$(session_processes)
    [ -n "$processes" ] || break
    signal=TERM
    [ "$round" -le 50 ] || signal=KILL
    [ $((round % 10)) != 1 ] && [ "$signal" = TERM ] || kill -s "$signal" $processes
    sleep 0.1
done

# The last mount is unmounted first.
sed -n '1!G;h;$p' /proc/self/mounts | while read -r _ target _; do
    case $target in "$session"/*) umount --lazy "$target" ;; esac
done
rm -rf "$session"
