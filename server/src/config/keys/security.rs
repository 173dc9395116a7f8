//! Security.

use super::keys;

keys! {
    "authorizer.class.name": String = "", OneOf(&[""]);
        "Access control is not served: must be empty."
    inert "connection.failed.authentication.delay.ms": Int = "100", AtLeast(0);
        "Security of the Java broker."
    inert "connections.max.reauth.ms": Long = "0", Any;
        "Security of the Java broker."
    inert "delegation.token.expiry.check.interval.ms": Long = "3600000", AtLeast(1);
        "Delegation tokens."
    inert "delegation.token.expiry.time.ms": Long = "86400000", AtLeast(1);
        "Delegation tokens."
    inert "delegation.token.max.lifetime.ms": Long = "604800000", AtLeast(1);
        "Delegation tokens."
    inert "delegation.token.secret.key": Password = unset, Any;
        "Delegation tokens."
    inert "password.encoder.secret": Password = unset, Any;
        "Gone from Kafka since version 4."
    inert "principal.builder.class": Class = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", Any;
        "Security of the Java broker."
    inert "sasl.client.callback.handler.class": Class = unset, Any;
        "SASL authentication."
    inert "sasl.enabled.mechanisms": List = "GSSAPI", Any;
        "SASL authentication."
    inert "sasl.jaas.config": Password = unset, Any;
        "SASL authentication."
    inert "sasl.kerberos.kinit.cmd": String = "/usr/bin/kinit", Any;
        "SASL authentication."
    inert "sasl.kerberos.min.time.before.relogin": Long = "60000", Any;
        "SASL authentication."
    inert "sasl.kerberos.principal.to.local.rules": List = "DEFAULT", Any;
        "SASL authentication."
    inert "sasl.kerberos.service.name": String = unset, Any;
        "SASL authentication."
    inert "sasl.kerberos.ticket.renew.jitter": Double = "0.05", Any;
        "SASL authentication."
    inert "sasl.kerberos.ticket.renew.window.factor": Double = "0.8", Any;
        "SASL authentication."
    inert "sasl.login.callback.handler.class": Class = unset, Any;
        "SASL authentication."
    inert "sasl.login.class": Class = unset, Any;
        "SASL authentication."
    inert "sasl.login.connect.timeout.ms": Int = unset, Any;
        "SASL authentication."
    inert "sasl.login.read.timeout.ms": Int = unset, Any;
        "SASL authentication."
    inert "sasl.login.refresh.buffer.seconds": Short = "300", Any;
        "SASL authentication."
    inert "sasl.login.refresh.min.period.seconds": Short = "60", Any;
        "SASL authentication."
    inert "sasl.login.refresh.window.factor": Double = "0.8", Any;
        "SASL authentication."
    inert "sasl.login.refresh.window.jitter": Double = "0.05", Any;
        "SASL authentication."
    inert "sasl.login.retry.backoff.max.ms": Long = "10000", Any;
        "SASL authentication."
    inert "sasl.login.retry.backoff.ms": Long = "100", Any;
        "SASL authentication."
    inert "sasl.mechanism.controller.protocol": String = "GSSAPI", Any;
        "SASL authentication."
    inert "sasl.mechanism.inter.broker.protocol": String = "GSSAPI", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.algorithm": String = "RS256", OneOfAnyCase(&["ES256", "RS256"]);
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.aud": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.exp.seconds": Int = "300", Between(0, 86400);
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.iss": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.jti.include": Boolean = "false", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.nbf.seconds": Int = "60", Between(0, 3600);
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.claim.sub": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.file": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.private.key.file": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.private.key.passphrase": Password = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.assertion.template.file": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.client.credentials.client.id": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.client.credentials.client.secret": Password = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.clock.skew.seconds": Int = "30", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.expected.audience": List = "", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.expected.issuer": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwks.endpoint.refresh.ms": Long = "3600000", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": Long = "10000", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms": Long = "100", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwks.endpoint.url": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwt.retriever.class": Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.jwt.validator.class": Class = "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.scope": String = unset, Any;
        "SASL authentication."
    inert "sasl.oauthbearer.scope.claim.name": String = "scope", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.sub.claim.name": String = "sub", Any;
        "SASL authentication."
    inert "sasl.oauthbearer.token.endpoint.url": String = unset, Any;
        "SASL authentication."
    inert "sasl.server.callback.handler.class": Class = unset, Any;
        "SASL authentication."
    inert "sasl.server.max.receive.size": Int = "524288", Any;
        "SASL authentication."
    inert "security.inter.broker.protocol": String = "PLAINTEXT", OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]);
        "Gone from Kafka since version 4."
    inert "security.providers": String = unset, Any;
        "Security of the Java broker."
    inert "ssl.allow.dn.changes": Boolean = "false", Any;
        "TLS."
    inert "ssl.allow.san.changes": Boolean = "false", Any;
        "TLS."
    inert "ssl.cipher.suites": List = "", Any;
        "TLS."
    inert "ssl.client.auth": String = "none", OneOf(&["required", "requested", "none"]);
        "TLS."
    inert "ssl.enabled.protocols": List = "TLSv1.2,TLSv1.3", Any;
        "TLS."
    inert "ssl.endpoint.identification.algorithm": String = "https", Any;
        "TLS."
    inert "ssl.engine.factory.class": Class = unset, Any;
        "TLS."
    inert "ssl.key.password": Password = unset, Any;
        "TLS."
    inert "ssl.keymanager.algorithm": String = "SunX509", Any;
        "TLS."
    inert "ssl.keystore.certificate.chain": Password = unset, Any;
        "TLS."
    inert "ssl.keystore.key": Password = unset, Any;
        "TLS."
    inert "ssl.keystore.location": String = unset, Any;
        "TLS."
    inert "ssl.keystore.password": Password = unset, Any;
        "TLS."
    inert "ssl.keystore.type": String = "JKS", Any;
        "TLS."
    inert "ssl.principal.mapping.rules": String = "DEFAULT", Any;
        "TLS."
    inert "ssl.protocol": String = "TLSv1.3", Any;
        "TLS."
    inert "ssl.provider": String = unset, Any;
        "TLS."
    inert "ssl.secure.random.implementation": String = unset, Any;
        "TLS."
    inert "ssl.trustmanager.algorithm": String = "PKIX", Any;
        "TLS."
    inert "ssl.truststore.certificates": Password = unset, Any;
        "TLS."
    inert "ssl.truststore.location": String = unset, Any;
        "TLS."
    inert "ssl.truststore.password": Password = unset, Any;
        "TLS."
    inert "ssl.truststore.type": String = "JKS", Any;
        "TLS."
}
