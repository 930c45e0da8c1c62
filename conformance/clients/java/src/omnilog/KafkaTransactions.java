package omnilog;

import static omnilog.Run.check;
import static omnilog.Run.equal;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** kafka-clients with transactions. */
final class KafkaTransactions {
    private KafkaTransactions() {}

    static void register(Map<String, Run.Case> cases) {
        cases.put("java/transaction_commit_and_abort", KafkaTransactions::commitAndAbort);
        cases.put("java/transaction_consume_produce", KafkaTransactions::consumeProduce);
        cases.put("java/transaction_zombie", KafkaTransactions::zombie);
        cases.put("java/transaction_admin", KafkaTransactions::admin);
    }

    private static Properties common(Run at) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", at.options.get("--kafka"));
        return properties;
    }

    private static KafkaProducer<String, String> producer(Run at, String id) {
        Properties properties = common(at);
        properties.put("transactional.id", at.name(id));
        KafkaProducer<String, String> producer =
                new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        return producer;
    }

    private static KafkaConsumer<String, String> consumer(Run at, String group, String isolation) {
        Properties properties = common(at);
        properties.put("group.id", at.name(group));
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("isolation.level", isolation);
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private static void create(Run at, String... topics) throws Exception {
        try (Admin admin = Admin.create(common(at))) {
            List<NewTopic> all = new ArrayList<>();
            for (String topic : topics) {
                all.add(new NewTopic(topic, 1, (short) 1));
            }
            admin.createTopics(all).all().get();
        }
    }

    /** Values up to the end that a reader is told. */
    private static List<String> read(Run at, String topic, String isolation) {
        try (KafkaConsumer<String, String> consumer = consumer(at, "reader-" + isolation, isolation)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            List<String> values = new ArrayList<>();
            long until = System.nanoTime() + 30_000_000_000L;
            while (consumer.position(partition) < end) {
                check(System.nanoTime() < until, "the end is reached within 30 s");
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    values.add(record.value());
                }
            }
            return values;
        }
    }

    private static void commitAndAbort(Run at) throws Exception {
        String topic = at.name("t");
        create(at, topic);
        List<String> written = new ArrayList<>();
        List<String> committed = new ArrayList<>();
        try (KafkaProducer<String, String> producer = producer(at, "writer")) {
            for (int turn = 0; turn < 20; turn++) {
                producer.beginTransaction();
                for (int i = 0; i < 10; i++) {
                    String value = turn + "." + i;
                    producer.send(new ProducerRecord<>(topic, value));
                    written.add(value);
                    if (turn % 3 != 1) {
                        committed.add(value);
                    }
                }
                producer.flush();
                if (turn % 3 == 1) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            // What is open hides itself only from readers of what is committed.
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "open")).get();
            equal(read(at, topic, "read_committed"), committed, "what is committed");
            written.add("open");
            equal(read(at, topic, "read_uncommitted"), written, "what was written");
            producer.abortTransaction();
        }
        equal(read(at, topic, "read_committed"), committed, "what is committed in the end");
    }

    private static void consumeProduce(Run at) throws Exception {
        String source = at.name("source");
        String sink = at.name("sink");
        create(at, source, sink);
        List<String> all = new ArrayList<>();
        try (KafkaProducer<String, String> writer = producer(at, "writer")) {
            writer.beginTransaction();
            for (int i = 0; i < 50; i++) {
                writer.send(new ProducerRecord<>(source, Integer.toString(i)));
                all.add(Integer.toString(i));
            }
            writer.commitTransaction();
        }
        TopicPartition partition = new TopicPartition(source, 0);
        int done = 0;
        for (int life = 0; done < 50; life++) {
            check(life < 20, "all is copied");
            // Every second life ends in the middle of a transaction, and the next takes over.
            try (KafkaConsumer<String, String> consumer = consumer(at, "copier", "read_committed")) {
                KafkaProducer<String, String> copier = producer(at, "copier");
                consumer.subscribe(List.of(source));
                List<ConsumerRecord<String, String>> batch = new ArrayList<>();
                long until = System.nanoTime() + 30_000_000_000L;
                while (batch.size() < 25) {
                    check(System.nanoTime() < until, "records come within 30 s");
                    consumer.poll(Duration.ofMillis(200)).forEach(batch::add);
                }
                batch = batch.subList(0, 25);
                copier.beginTransaction();
                long next = 0;
                for (ConsumerRecord<String, String> record : batch) {
                    copier.send(new ProducerRecord<>(sink, record.value()));
                    next = record.offset() + 1;
                }
                copier.sendOffsetsToTransaction(
                        Map.of(partition, new OffsetAndMetadata(next)), consumer.groupMetadata());
                if (life % 2 == 1) {
                    copier.flush();
                    copier.close(Duration.ZERO);
                } else {
                    copier.commitTransaction();
                    copier.close();
                    done += 25;
                }
            }
        }
        equal(read(at, sink, "read_committed"), all, "each record once and in order");
    }

    private static void zombie(Run at) throws Exception {
        String topic = at.name("t");
        create(at, topic);
        KafkaProducer<String, String> zombie = producer(at, "writer");
        zombie.beginTransaction();
        zombie.send(new ProducerRecord<>(topic, "zombie")).get();
        try (KafkaProducer<String, String> successor = producer(at, "writer")) {
            try {
                zombie.send(new ProducerRecord<>(topic, "late")).get();
                zombie.commitTransaction();
                throw new AssertionError("the zombie has committed");
            } catch (KafkaException | ExecutionException error) {
                Throwable cause = error instanceof KafkaException ? error : error.getCause();
                check(cause instanceof ProducerFencedException
                        || cause instanceof InvalidProducerEpochException
                        || cause.getCause() instanceof ProducerFencedException
                        || cause.getCause() instanceof InvalidProducerEpochException, "fenced: " + cause);
            }
            try {
                zombie.abortTransaction();
                throw new AssertionError("the zombie goes on");
            } catch (KafkaException fenced) {
                check(fenced instanceof ProducerFencedException
                        || fenced.getCause() instanceof ProducerFencedException
                        || fenced.getCause() instanceof InvalidProducerEpochException, "fenced: " + fenced);
            }
            successor.beginTransaction();
            successor.send(new ProducerRecord<>(topic, "successor"));
            successor.commitTransaction();
        }
        zombie.close(Duration.ZERO);
        equal(read(at, topic, "read_committed"), List.of("successor"), "what is committed");
    }

    private static void admin(Run at) throws Exception {
        String topic = at.name("t");
        String id = at.name("writer");
        create(at, topic);
        try (KafkaProducer<String, String> producer = producer(at, "writer");
                Admin admin = Admin.create(common(at))) {
            equal(state(admin, id), TransactionState.EMPTY, "the state before");
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "one")).get();
            TransactionDescription open = admin.describeTransactions(List.of(id)).description(id).get();
            equal(open.state(), TransactionState.ONGOING, "the state while it is open");
            equal(open.topicPartitions(), Set.of(new TopicPartition(topic, 0)), "its partitions");
            equal(open.transactionTimeoutMs(), 60_000L, "its timeout");
            check(open.transactionStartTimeMs().isPresent(), "when it began");
            check(listed(admin, new ListTransactionsOptions(), id), "it is listed");
            check(listed(admin, new ListTransactionsOptions()
                    .filterStates(Set.of(TransactionState.ONGOING))
                    .filterProducerIds(Set.of(open.producerId())), id), "it is listed as open");
            check(!listed(admin, new ListTransactionsOptions()
                    .filterStates(Set.of(TransactionState.COMPLETE_ABORT)), id), "and not as aborted");
            producer.commitTransaction();
            // Apache Kafka ends it in two steps, the second after the answer.
            long until = System.nanoTime() + 10_000_000_000L;
            while (state(admin, id) != TransactionState.COMPLETE_COMMIT) {
                check(System.nanoTime() < until, "it is complete within 10 s");
                Thread.sleep(20);
            }
            try {
                admin.describeTransactions(List.of(at.name("nobody"))).all().get();
                throw new AssertionError("an id that nobody has is described");
            } catch (ExecutionException error) {
                check(error.getCause() instanceof TransactionalIdNotFoundException, "not found: " + error);
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "two")).get();
            admin.fenceProducers(List.of(id)).all().get();
            try {
                producer.commitTransaction();
                throw new AssertionError("a fenced producer has committed");
            } catch (KafkaException fenced) {
                check(fenced instanceof ProducerFencedException
                        || fenced instanceof InvalidProducerEpochException, "fenced: " + fenced);
            }
        }
        equal(read(at, topic, "read_committed"), List.of("one"), "what is committed");
    }

    private static TransactionState state(Admin admin, String id) throws Exception {
        return admin.describeTransactions(List.of(id)).description(id).get().state();
    }

    private static boolean listed(Admin admin, ListTransactionsOptions options, String id) throws Exception {
        return admin.listTransactions(options).all().get().stream()
                .anyMatch(listing -> listing.transactionalId().equals(id));
    }
}
