#!/bin/sh
# Makes the certificates of these tests anew: an authority, a server that it vouches for, one whose certificate has
# expired, one for another name, and a client. Needs OpenSSL 3.
set -eu
cd "$(dirname "$0")"
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"; }
sign() { # name, subject alternative name, start, end, extended key usage
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
  printf 'subjectAltName=%s\nextendedKeyUsage=%s\nbasicConstraints=CA:FALSE\n' "$2" "$5" > extensions
  : > index.txt; echo 01 > serial
  printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n' > ca.cnf
  openssl ca -batch -config ca.cnf -cert authority.crt -keyfile authority.key -in "$1.csr" -notext -extfile extensions \
    -startdate "$3" -enddate "$4" -out "$1.crt" 2>/dev/null
  rm -f "$1.csr" extensions index.txt* serial* ca.cnf 01.pem
}
key authority
openssl req -x509 -new -key authority.key -subj '/CN=test authority' -days 36500 -out authority.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
sign good 'DNS:localhost,IP:127.0.0.1' 20240101000000Z 21240101000000Z serverAuth
sign expired 'DNS:localhost,IP:127.0.0.1' 20200101000000Z 20200201000000Z serverAuth
sign other 'DNS:other.example' 20240101000000Z 21240101000000Z serverAuth
sign client 'DNS:client.example' 20240101000000Z 21240101000000Z clientAuth
rm -f authority.key
