# Two platforms and one name: at once, or each from the machine that has the program.
ocibuild build -t "$REGISTRY/team/clock:v1" --platform linux/amd64,linux/arm64 --copy './bin/{arch}/clock:/clock' --entrypoint /clock --push
ocibuild build -t "$REGISTRY/team/clock:v2" --platform linux/arm64 --copy ./bin/arm64/clock:/clock --entrypoint /clock --push --into-index
ocibuild build -t "$REGISTRY/team/clock:v2" --platform linux/amd64 --copy ./bin/amd64/clock:/clock --entrypoint /clock --push --into-index
ocibuild diff "$REGISTRY/team/clock:v1" "$REGISTRY/team/clock:v2" --quiet
"$ENGINE" pull --platform linux/arm64 "$REGISTRY/team/clock:v2"
"$ENGINE" image inspect --format '{{.Architecture}}' "$REGISTRY/team/clock:v2"
"$ENGINE" pull --platform linux/amd64 "$REGISTRY/team/clock:v2"
"$ENGINE" run --rm "$REGISTRY/team/clock:v2" UTC0
