import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Driver of Apache's Java clients. See ../README.md for the protocol. */
public final class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long OPERATION_S = 30;

    private final String bootstrap;
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new HashMap<>();
    private KafkaConsumer<byte[], byte[]> member;
    private Admin adminClient;

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        Driver driver = new Driver(arguments[0]);
        ObjectNode hello = JSON.createObjectNode().put("client", "java").put("version", AppInfoParser.getVersion());
        ArrayNode can = hello.putArray("can");
        for (String each : List.of("produce", "read", "offset_at", "watermarks", "partitions", "create", "delete",
                "grow", "join", "committed", "delete_records", "idempotence", "create_on_produce", "codec:none",
                "codec:gzip", "codec:snappy", "codec:lz4", "codec:zstd")) {
            can.add(each);
        }
        answers.println(hello);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode request = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            try {
                driver.answer(request, answer);
            } catch (Exception failure) {
                failure.printStackTrace();
                answer = JSON.createObjectNode().put("error", nameOf(failure));
            }
            answers.println(answer);
        }
        Runtime.getRuntime().halt(0);
    }

    private void answer(JsonNode request, ObjectNode answer) throws Exception {
        String topic = request.path("topic").asText(null);
        int partition = request.path("partition").asInt(-1);
        switch (request.get("op").asText()) {
            case "produce" -> produce(request, answer);
            case "read" -> read(request, answer);
            case "offset_at" -> {
                try (KafkaConsumer<byte[], byte[]> reader = consumer(Map.of())) {
                    answer.put("offset", lookUp(reader, new TopicPartition(topic, partition),
                            request.get("timestamp").asLong()));
                }
            }
            case "watermarks" -> watermarks(new TopicPartition(topic, partition), answer);
            case "partitions" -> answer.put("partitions",
                    wait(admin().describeTopics(List.of(topic)).topicNameValues().get(topic)).partitions().size());
            case "create" -> {
                Map<String, String> configuration = new HashMap<>();
                request.path("config").fields().forEachRemaining(
                        each -> configuration.put(each.getKey(), each.getValue().asText()));
                NewTopic wanted = new NewTopic(topic, request.get("partitions").asInt(), (short) 1);
                wait(admin().createTopics(List.of(wanted.configs(configuration))).all());
            }
            case "delete" -> wait(admin().deleteTopics(List.of(topic)).all());
            case "grow" -> wait(admin().createPartitions(
                    Map.of(topic, NewPartitions.increaseTo(request.get("partitions").asInt()))).all());
            case "delete_records" -> {
                TopicPartition place = new TopicPartition(topic, partition);
                answer.put("low", wait(admin().deleteRecords(
                        Map.of(place, RecordsToDelete.beforeOffset(request.get("before").asLong())))
                        .lowWatermarks().get(place)).lowWatermark());
            }
            case "join" -> join(request);
            case "poll" -> poll(request, answer);
            case "commit" -> member.commitSync();
            case "leave" -> {
                member.close();
                member = null;
            }
            case "committed" -> committed(request, topic, answer);
            default -> throw new UnsupportedOperationException();
        }
    }

    private void produce(JsonNode request, ObjectNode answer) throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(request.path("codec").asText("none"),
                request.path("acks").asText("all"), request.path("idempotent").asBoolean(false));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode each : request.get("records")) {
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(
                    request.get("topic").asText(),
                    request.path("partition").isNumber() ? request.get("partition").asInt() : null,
                    each.path("t").isNumber() ? each.get("t").asLong() : null,
                    decode(each.get("k")), decode(each.get("v")));
            for (JsonNode header : each.path("h")) {
                record.headers().add(header.get(0).asText(), decode(header.get(1)));
            }
            sent.add(producer.send(record));
        }
        ArrayNode results = answer.putArray("results");
        for (Future<RecordMetadata> each : sent) {
            try {
                RecordMetadata told = each.get(OPERATION_S, TimeUnit.SECONDS);
                results.addObject().put("p", told.partition()).put("o", told.offset());
            } catch (Exception failure) {
                results.addObject().put("error", nameOf(failure));
            }
        }
    }

    private void read(JsonNode request, ObjectNode answer) {
        TopicPartition place = new TopicPartition(request.get("topic").asText(), request.get("partition").asInt());
        int count = request.get("count").asInt();
        JsonNode from = request.path("from");
        ArrayNode records = answer.putArray("records");
        try (KafkaConsumer<byte[], byte[]> reader = consumer(Map.of())) {
            reader.assign(List.of(place));
            if (from.has("offset")) {
                reader.seek(place, from.get("offset").asLong());
            } else if (from.has("time")) {
                reader.seek(place, lookUp(reader, place, from.get("time").asLong()));
            } else {
                reader.seekToBeginning(List.of(place));
            }
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(OPERATION_S);
            while (records.size() < count && System.nanoTime() < deadline) {
                for (ConsumerRecord<byte[], byte[]> each : reader.poll(Duration.ofMillis(500))) {
                    if (records.size() == count) {
                        break;
                    }
                    ObjectNode record = records.addObject().put("o", each.offset());
                    record.put("k", encode(each.key())).put("v", encode(each.value())).put("t", each.timestamp());
                    ArrayNode headers = record.putArray("h");
                    for (Header header : each.headers()) {
                        headers.addArray().add(header.key()).add(encode(header.value()));
                    }
                }
            }
        }
    }

    private static long lookUp(KafkaConsumer<byte[], byte[]> reader, TopicPartition place, long timestamp) {
        return Optional.ofNullable(reader.offsetsForTimes(Map.of(place, timestamp)).get(place))
                .map(found -> found.offset()).orElse(-1L);
    }

    private void watermarks(TopicPartition place, ObjectNode answer) {
        try (KafkaConsumer<byte[], byte[]> reader = consumer(Map.of())) {
            answer.put("low", reader.beginningOffsets(List.of(place)).get(place));
            answer.put("high", reader.endOffsets(List.of(place)).get(place));
        }
    }

    private void join(JsonNode request) {
        int session = request.get("session_ms").asInt();
        Map<String, String> settings = new HashMap<>();
        settings.put("group.id", request.get("group").asText());
        settings.put("session.timeout.ms", String.valueOf(session));
        settings.put("heartbeat.interval.ms", String.valueOf(Math.max(session / 10, 300)));
        settings.put("metadata.max.age.ms", "5000");
        if (request.path("instance").isTextual()) {
            settings.put("group.instance.id", request.get("instance").asText());
        }
        member = consumer(settings);
        List<String> topics = new ArrayList<>();
        request.get("topics").forEach(each -> topics.add(each.asText()));
        member.subscribe(topics);
    }

    private void poll(JsonNode request, ObjectNode answer) {
        int count = request.get("count").asInt();
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(request.get("for_ms").asLong());
        ArrayNode records = answer.putArray("records");
        while (records.size() < count && System.nanoTime() < deadline) {
            for (ConsumerRecord<byte[], byte[]> each : member.poll(Duration.ofMillis(200))) {
                records.addObject().put("p", each.partition()).put("o", each.offset()).put("v", encode(each.value()));
            }
        }
        Set<Integer> assigned = new TreeSet<>();
        member.assignment().forEach(place -> assigned.add(place.partition()));
        ArrayNode assignment = answer.putArray("assignment");
        assigned.forEach(assignment::add);
    }

    private void committed(JsonNode request, String topic, ObjectNode answer) {
        Set<TopicPartition> places = new HashSet<>();
        request.get("partitions").forEach(each -> places.add(new TopicPartition(topic, each.asInt())));
        ArrayNode offsets = answer.putArray("offsets");
        try (KafkaConsumer<byte[], byte[]> reader = consumer(Map.of("group.id", request.get("group").asText()))) {
            Map<TopicPartition, OffsetAndMetadata> found = reader.committed(places);
            request.get("partitions").forEach(each -> {
                OffsetAndMetadata place = found.get(new TopicPartition(topic, each.asInt()));
                offsets.add(place == null ? -1 : place.offset());
            });
        }
    }

    private KafkaProducer<byte[], byte[]> producer(String codec, String acks, boolean idempotent) {
        return producers.computeIfAbsent(codec + "/" + acks + "/" + idempotent, key -> {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", bootstrap);
            settings.put("compression.type", codec);
            settings.put("acks", acks);
            settings.put("enable.idempotence", String.valueOf(idempotent));
            settings.put("linger.ms", "50");
            settings.put("max.request.size", "20000000");
            settings.put("batch.size", "131072");
            settings.put("request.timeout.ms", "20000");
            settings.put("delivery.timeout.ms", "30000");
            return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        });
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, String> more) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.putAll(more);
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private Admin admin() {
        if (adminClient == null) {
            adminClient = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms", "30000"));
        }
        return adminClient;
    }

    private static <T> T wait(KafkaFuture<T> future) throws Exception {
        return future.get(OPERATION_S, TimeUnit.SECONDS);
    }

    private static String nameOf(Throwable failure) {
        Throwable cause = failure instanceof ExecutionException && failure.getCause() != null
                ? failure.getCause() : failure;
        return cause.getClass().getSimpleName();
    }

    private static byte[] decode(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static String encode(byte[] data) {
        return data == null ? null : Base64.getEncoder().encodeToString(data);
    }
}
