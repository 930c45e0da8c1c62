package omnilog;

import static omnilog.Run.check;
import static omnilog.Run.equal;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** kafka-clients with default settings. */
final class KafkaCases {
    private KafkaCases() {}

    static void register(Map<String, Run.Case> cases) {
        cases.put("java/produce_consume", KafkaCases::produceConsume);
        cases.put("java/rebalance_and_resume", KafkaCases::rebalanceAndResume);
        cases.put("java/admin", KafkaCases::admin);
        cases.put("java/compression", KafkaCases::compression);
    }

    private static Properties common(Run at) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", at.options.get("--kafka"));
        return properties;
    }

    private static KafkaProducer<String, String> producer(Run at, String codec) {
        Properties properties = common(at);
        properties.put("compression.type", codec);
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    private static KafkaConsumer<String, String> consumer(Run at, String group) {
        Properties properties = common(at);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private static void produce(KafkaProducer<String, String> producer, String topic, int from, int to)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = from; i < to; i++) {
            ProducerRecord<String, String> record = new ProducerRecord<>(topic, "k" + i % 5, Integer.toString(i));
            record.headers().add("h", "v".getBytes(StandardCharsets.UTF_8)).add("h", null);
            sent.add(producer.send(record));
        }
        for (Future<RecordMetadata> one : sent) {
            one.get();
        }
    }

    private static List<ConsumerRecord<String, String>> consume(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        long end = System.nanoTime() + 30_000_000_000L;
        while (got.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200)).forEach(got::add);
        }
        equal(got.size(), count, "records consumed");
        return got;
    }

    private static void create(Run at, String topic, int partitions) throws Exception {
        try (Admin admin = Admin.create(common(at))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
    }

    private static void produceConsume(Run at) throws Exception {
        String topic = at.name("t");
        try (KafkaProducer<String, String> producer = producer(at, "none");
                KafkaConsumer<String, String> consumer = consumer(at, at.name("g"))) {
            produce(producer, topic, 0, 500);
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<String, String>> got = consume(consumer, 500);
            for (int i = 0; i < 500; i++) {
                equal(got.get(i).value(), Integer.toString(i), "value at " + i);
                equal(got.get(i).offset(), (long) i, "offset at " + i);
                equal(got.get(i).headers().toArray().length, 2, "headers at " + i);
            }
        }
    }

    private static void rebalanceAndResume(Run at) throws Exception {
        String topic = at.name("t");
        String group = at.name("g");
        create(at, topic, 4);
        try (KafkaProducer<String, String> producer = producer(at, "none");
                KafkaConsumer<String, String> first = consumer(at, group);
                KafkaConsumer<String, String> second = consumer(at, group)) {
            first.subscribe(List.of(topic));
            second.subscribe(List.of(topic));
            Set<String> values = new HashSet<>();
            long end = System.nanoTime() + 40_000_000_000L;
            while (first.assignment().size() != 2 || second.assignment().size() != 2) {
                check(System.nanoTime() < end, "own " + first.assignment() + " and " + second.assignment());
                first.poll(Duration.ofMillis(50)).forEach(record -> values.add(record.value()));
                second.poll(Duration.ofMillis(50)).forEach(record -> values.add(record.value()));
            }
            produce(producer, topic, 0, 100);
            while (values.size() < 100) {
                check(System.nanoTime() < end, values.size() + " of 100 records");
                first.poll(Duration.ofMillis(50)).forEach(record -> values.add(record.value()));
                second.poll(Duration.ofMillis(50)).forEach(record -> values.add(record.value()));
            }
            first.commitSync();
            second.commitSync();
            second.unsubscribe();
            while (first.assignment().size() != 4) {
                check(System.nanoTime() < end, "the one left owns " + first.assignment());
                equal(first.poll(Duration.ofMillis(50)).count(), 0, "records after the commit");
            }
            produce(producer, topic, 100, 150);
            for (ConsumerRecord<String, String> record : consume(first, 50)) {
                check(Integer.parseInt(record.value()) >= 100, "an old record came again: " + record.value());
            }
        }
    }

    private static void admin(Run at) throws Exception {
        String topic = at.name("t");
        create(at, topic, 3);
        try (Admin admin = Admin.create(common(at));
                KafkaProducer<String, String> producer = producer(at, "none")) {
            try {
                create(at, topic, 3);
                throw new AssertionError("a topic was created twice");
            } catch (ExecutionException error) {
                check(error.getCause() instanceof TopicExistsException, "the cause is " + error.getCause());
            }
            equal(admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 3,
                    "partitions");
            TopicPartition partition = new TopicPartition(topic, 1);
            for (int i = 0; i < 5; i++) {
                producer.send(new ProducerRecord<>(topic, 1, 1_700_000_000_000L + i * 1000L, "k", "v")).get();
            }
            ListOffsetsResult latest = admin.listOffsets(Map.of(partition, OffsetSpec.latest()));
            equal(latest.partitionResult(partition).get().offset(), 5L, "latest");
            ListOffsetsResult timed =
                    admin.listOffsets(Map.of(partition, OffsetSpec.forTimestamp(1_700_000_002_500L)));
            equal(timed.partitionResult(partition).get().offset(), 3L, "by time");
            check(admin.listTopics().names().get().contains(topic), "the topic is listed");
            admin.deleteTopics(List.of(topic)).all().get();
            long end = System.nanoTime() + 10_000_000_000L;
            while (admin.listTopics().names().get().contains(topic)) {
                check(System.nanoTime() < end, "the topic is gone");
                Thread.sleep(50);
            }
        }
    }

    private static void compression(Run at) throws Exception {
        String topic = at.name("t");
        int from = 0;
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            try (KafkaProducer<String, String> producer = producer(at, codec)) {
                produce(producer, topic, from, from + 100);
            }
            from += 100;
        }
        try (KafkaConsumer<String, String> consumer = consumer(at, at.name("g"))) {
            consumer.subscribe(List.of(topic));
            List<ConsumerRecord<String, String>> got = consume(consumer, 400);
            for (int i = 0; i < 400; i++) {
                equal(got.get(i).value(), Integer.toString(i), "value at " + i);
            }
        }
    }
}
