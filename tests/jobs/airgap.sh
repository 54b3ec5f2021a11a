# A hand-over without a network: the base is exported here, the image is built and loaded there.
ocibuild export "$REGISTRY/team/app:v1" oci-archive:base.tar
mkdir there && mv base.tar ./tool there/ && cd there
OCIBUILD_OFFLINE=1 ocibuild build -t jobs/carried:v1 --base oci-archive:base.tar --copy ./tool:/usr/bin/tool --output docker-archive:app.tar
"$ENGINE" load --input app.tar
"$ENGINE" run --rm jobs/carried:v1 tool carried
