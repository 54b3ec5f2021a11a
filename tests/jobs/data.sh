# Data that an init container of Kubernetes copies into a volume.
ocibuild build -t jobs/model:v1 --base ./busybox --copy ./model:/model --cmd 'cp -r /model/. /target/' --load "$ENGINE"
mkdir target
"$ENGINE" run --rm --volume "$PWD/target:/target" jobs/model:v1
cat target/weights
