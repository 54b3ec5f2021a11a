# A robot of rcc with its recorded environment, built in its directory and loaded.
ocibuild build -t jobs/robot:v1 --task 'Count stock' --output docker-archive:robot.tar
podman load --quiet --input robot.tar
podman run --rm jobs/robot:v1
