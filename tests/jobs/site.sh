# A static web site, served by the httpd of busybox.
ocibuild build -t jobs/site:v1 --base ./busybox --copy ./site:/srv --expose 8080 --user 1000 \
    --cmd 'busybox httpd -f -p 8080 -h /srv' --load "$ENGINE"
"$ENGINE" run --detach --name job-site jobs/site:v1 >started
until "$ENGINE" exec job-site busybox wget -q -O - http://127.0.0.1:8080/index.html; do sleep 0.2; done
"$ENGINE" rm --force job-site >removed
