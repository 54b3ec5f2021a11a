# A Node program with its node_modules, which change less often and so have a layer of their own, on a base with Node.
ocibuild build -t jobs/greeter:v1 --base ./node --copy ./greeter/node_modules:/app/node_modules \
    --copy ./greeter:/app,exclude=node_modules --workdir /app --user 1000 --cmd 'node main.js' --load "$ENGINE"
"$ENGINE" run --rm jobs/greeter:v1
