# A tool in a container: its entrypoint takes arguments, a user runs it, and an engine can ask how it is.
ocibuild build -t jobs/tool:v1 --base ./busybox --copy ./tool:/usr/bin/tool --entrypoint /usr/bin/tool --cmd --help \
    --add-user tool:1000 --user tool --healthcheck '/usr/bin/tool --version' --health-interval 30s --load "$ENGINE"
"$ENGINE" run --rm jobs/tool:v1
"$ENGINE" run --rm jobs/tool:v1 count words
