//! Listeners, connections and requests.

use super::keys;

keys! {
    "advertised.listeners": List = unset, NotEmpty;
        "What clients are told, by listener name, where it differs from `listeners`. Never a wildcard address."
    "connections.max.idle.ms": Long = "600000", Any;
        "Milliseconds after which a connection without a request is closed; negative for never."
    "controller.listener.names": List = "CONTROLLER", NotEmpty;
        "Listeners of controllers. The controller is part of this process and needs no port: these are not bound."
    inert "early.start.listeners": List = unset, Any;
        "The Java broker's own."
    "fetch.max.bytes": Int = "57671680", AtLeast(1024);
        "Bytes of the largest fetch response, whatever the client asks for; a first batch that is larger is still sent."
    "inter.broker.listener.name": String = unset, Any;
        "The listener that other brokers would use; the name of one of `listeners`."
    "listener.security.protocol.map": String = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", Any;
        "The security protocol of each listener name. A listener that is bound must be `PLAINTEXT`."
    "listeners": List = "PLAINTEXT://:9092", NotEmpty;
        "Where to listen: `NAME://host:port`, separated by commas. An empty host binds every interface. Only plain text is served."
    inert "max.connection.creation.rate": Int = "2147483647", AtLeast(0);
        "The Java broker's own."
    "max.connections": Int = "2147483647", AtLeast(0);
        "Connections at one time; the next one is closed at once."
    "max.connections.per.ip": Int = "2147483647", AtLeast(0);
        "Connections at one time from one address; the next one is closed at once."
    "max.connections.per.ip.overrides": String = "", Any;
        "`address:count`, separated by commas: other values of `max.connections.per.ip`."
    "max.incremental.fetch.session.cache.slots": Int = "1000", AtLeast(0);
        "Incremental fetch sessions that are kept at one time."
    inert "max.request.partition.size.limit": Int = "2000", AtLeast(1);
        "The Java broker's own."
    "message.max.bytes": Int = "1048588", AtLeast(0);
        "Bytes of the largest batch, with its header, where a topic's `max.message.bytes` does not say otherwise."
    inert "num.io.threads": Int = "8", AtLeast(1);
        "Threads and queues of the Java broker."
    inert "num.network.threads": Int = "3", AtLeast(1);
        "Threads and queues of the Java broker."
    "queued.max.request.bytes": Long = "-1", Any;
        "Bytes of request bodies in memory, all connections together; −1 for a sixteenth of the memory limit, at least 128 MiB or an eighth of the limit where that is less, and at most 2 GiB. When they are used up, connections are not read, and one that holds some of them and sends less than 256 KiB a second is closed."
    inert "queued.max.requests": Int = "500", AtLeast(1);
        "Threads and queues of the Java broker."
    inert "request.timeout.ms": Int = "30000", Any;
        "The Java broker's own."
    inert "socket.connection.setup.timeout.max.ms": Long = "30000", Any;
        "Sockets: the kernel's own sizes and times serve."
    inert "socket.connection.setup.timeout.ms": Long = "10000", Any;
        "Sockets: the kernel's own sizes and times serve."
    inert "socket.listen.backlog.size": Int = "50", AtLeast(1);
        "The kernel holds up to net.core.somaxconn connections until they are accepted."
    inert "socket.receive.buffer.bytes": Int = "102400", Any;
        "Sockets: the kernel's own sizes and times serve."
    "socket.request.max.bytes": Int = "104857600", AtLeast(1);
        "Bytes of the largest request; a connection that announces more is closed. Less where the memory limit has no room for one on each core: the start says how much."
    inert "socket.send.buffer.bytes": Int = "102400", Any;
        "Sockets: the kernel's own sizes and times serve."
}
