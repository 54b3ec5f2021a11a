# Another environment and label for an image in a registry, without moving a layer.
ocibuild edit "docker://$REGISTRY/team/app:v1" --env MODE=production --label org.opencontainers.image.version=1.0.1
"$ENGINE" pull "$REGISTRY/team/app:v1"
"$ENGINE" image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "$REGISTRY/team/app:v1"
"$ENGINE" run --rm "$REGISTRY/team/app:v1" sh -c 'echo $MODE'
