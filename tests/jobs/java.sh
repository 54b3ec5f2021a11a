# A Java program: the libraries in one layer, its own jar above them, on a base with Java.
ocibuild build -t jobs/ledger:v1 --base ./java --copy ./lib:/app/lib --copy ./ledger.jar:/app/ledger.jar \
    --user 1000 --entrypoint 'java -cp /app/ledger.jar:/app/lib/* Main' --load "$ENGINE"
"$ENGINE" run --rm jobs/ledger:v1
