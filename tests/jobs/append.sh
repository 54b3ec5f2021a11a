# A configuration file on top of an image in a registry, pushed under another tag.
ocibuild build -t "$REGISTRY/team/app:configured" --base "$REGISTRY/team/app:v1" --copy ./app.conf:/etc/app/app.conf --push
"$ENGINE" pull "$REGISTRY/team/app:configured"
"$ENGINE" run --rm "$REGISTRY/team/app:configured" cat /etc/app/app.conf
