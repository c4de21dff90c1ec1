#!/bin/sh
# Prints every Secret that the manifests refer to, with new passwords, keys and certificates:
#
#   deploy/k8s/secrets.sh NAMESPACE | kubectl create -f -
#
# `create` does not replace existing Secrets. That matters: ID_KEY must never change while messages are in progress.
# DATABASE_URL is the URL of PostgreSQL; without it, the dev overlay's is used. Add the keys of a provider yourself:
# kubectl create secret generic provider-NAME --from-file=key=FILE. If you have cert-manager and a vault, let them create
# nats-tls, nats-ca and the other Secrets.
set -eu
umask 077
namespace=${1:?usage: secrets.sh NAMESPACE}
folder=$(mktemp -d)
trap 'code=$?; [ $code = 0 ] || cat "$folder/openssl.log" >&2; rm -rf "$folder"' EXIT

random() { openssl rand -hex 24; }

certificates() (
  cd "$folder"
  openssl ecparam -genkey -name prime256v1 -noout -out ca.key
  openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=sms-gateway stream ($namespace)" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.crt
  openssl ecparam -genkey -name prime256v1 -noout -out tls.key
  openssl req -new -key tls.key -subj "/CN=nats" -out tls.csr
  service=nats-headless
  # Each server by its own name: OpenSSL accepts no wildcard before a name without dots.
  names=DNS:localhost,IP:127.0.0.1
  for server in nats-0 nats-1 nats-2; do
    names=$names,DNS:$server.$service,DNS:$server.$service.$namespace.svc.cluster.local
  done
  cat > extensions <<END
subjectAltName=$names
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
END
  openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 730 -sha256 -extfile extensions -out tls.crt
) 2>"$folder/openssl.log"

# secret NAME KEY FILE [KEY FILE]...
secret() {
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata:\n' "$1" "$namespace"
  shift
  while [ $# -gt 0 ]; do
    printf '  %s: %s\n' "$1" "$(openssl base64 -A -in "$2")"
    shift 2
  done
}

certificates
secret nats-ca ca.crt "$folder/ca.crt"
secret nats-tls tls.crt "$folder/tls.crt" tls.key "$folder/tls.key" ca.crt "$folder/ca.crt"
for user in gateway dispatcher coordinator projector setup operator system; do
  random | tr -d '\n' > "$folder/password"
  printf '%s_PASSWORD: "%s"\n' "$(echo "$user" | tr '[:lower:]' '[:upper:]')" "$(cat "$folder/password")" \
    >> "$folder/passwords.conf"
  secret "nats-$user" password "$folder/password"
done
secret nats-passwords passwords.conf "$folder/passwords.conf"

printf %s "${ID_KEY:-$(random)}" > "$folder/id-key"
secret id-key key "$folder/id-key"

random | tr -d '\n' > "$folder/postgres"
printf %s "${DATABASE_URL:-postgresql://smsgw:$(cat "$folder/postgres")@postgres:5432/smsgw}" > "$folder/url"
# One database user for all three processes, unless you make one for each: setup owns the tables, projector writes,
# gateway reads.
for process in gateway projector setup; do secret "database-$process" url "$folder/url"; done
[ -n "${DATABASE_URL:-}" ] || secret postgres password "$folder/postgres"
