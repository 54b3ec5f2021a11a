# A static program without a base: a user and a home of its own, certificates and time zones, in one line.
ocibuild build -t jobs/clock:v1 --copy ./clock:/usr/bin/clock --add-user app:65532 --ca-certificates --timezones --user app --entrypoint /usr/bin/clock --load "$ENGINE"
"$ENGINE" run --rm jobs/clock:v1 Europe/Berlin
