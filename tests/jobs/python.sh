# A Python program with what `pip install --target packages` has installed, on a base with Python.
ocibuild build -t jobs/report:v1 --base ./python --copy ./packages:/app/packages --copy ./report.py:/app/report.py \
    --env PYTHONPATH=/app/packages --workdir /app --user 1000 --cmd 'python3 report.py' --load "$ENGINE"
"$ENGINE" run --rm jobs/report:v1
