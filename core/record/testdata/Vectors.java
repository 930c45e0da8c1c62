// Writes the golden vectors of this folder with Kafka's own Java client, and reads batches back with it.
//
//   java -cp 'JARS/*' Vectors.java write DIR          writes DIR/*.hex
//   java -cp 'JARS/*' Vectors.java read FILE.hex...   prints each record, or how the batch is refused
//
// JARS: kafka-clients 4.1, snappy-java, lz4-java, zstd-jni and slf4j-api.
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.function.Consumer;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;

public class Vectors {
    static final long TIME = 1_700_000_000_000L;
    static final Header[] NONE = new Header[0];

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(Path.of(args[1]));
        } else {
            for (int i = 1; i < args.length; i++) {
                read(Path.of(args[i]));
            }
        }
    }

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void write(Path folder) throws Exception {
        save(folder, "one", plain(b -> b.append(TIME, utf8("key"), utf8("value"), NONE)));
        save(folder, "nulls", plain(b -> {
            b.append(TIME, (byte[]) null, null, NONE);
            b.append(TIME - 5, new byte[0], new byte[0], NONE);
            b.append(TIME + 1_000_000, null, utf8("v"), NONE);
            b.append(TIME, utf8("k"), null, NONE);
        }));
        save(folder, "headers", plain(b -> b.append(TIME, utf8("k"), utf8("v"), new Header[] {
            new RecordHeader("a", utf8("1")),
            new RecordHeader("b", (byte[]) null),
            new RecordHeader("a", utf8("2")),
            new RecordHeader("", new byte[0]),
            new RecordHeader("a", utf8("1")),
            new RecordHeader("grüße", new byte[] {0, (byte) 0xff}),
        })));
        save(folder, "transactional", build(MemoryRecords.builder(ByteBuffer.allocate(4096), (byte) 2,
            Compression.NONE, TimestampType.CREATE_TIME, 1000L, -1L, 4711L, (short) 7, 2147483646, true, 9),
            b -> {
                b.append(TIME, utf8("a"), utf8("1"), NONE);
                b.append(TIME + 1, utf8("b"), utf8("2"), NONE);
                b.append(TIME + 2, utf8("c"), utf8("3"), NONE);
            }));
        save(folder, "log_append_time", build(MemoryRecords.builder(ByteBuffer.allocate(4096), (byte) 2,
            Compression.NONE, TimestampType.LOG_APPEND_TIME, 5L, TIME + 77),
            b -> {
                b.append(TIME, utf8("a"), utf8("1"), NONE);
                b.append(TIME + 1, utf8("b"), utf8("2"), NONE);
            }));
        for (CompressionType type : CompressionType.values()) {
            save(folder, "compressed_" + type.name, build(MemoryRecords.builder(ByteBuffer.allocate(65536),
                Compression.of(type).build(), TimestampType.CREATE_TIME, 0L), b -> {
                    for (int i = 0; i < 60; i++) {
                        b.append(TIME + i, utf8("key-" + i), utf8("value ".repeat(20) + i),
                            new Header[] {new RecordHeader("h", utf8("" + i))});
                    }
                }));
        }
        save(folder, "marker_commit", MemoryRecords.withEndTransactionMarker(0L, TIME, -1, 4711L, (short) 7,
            new EndTransactionMarker(ControlRecordType.COMMIT, 3)).buffer());
        save(folder, "marker_abort", MemoryRecords.withEndTransactionMarker(0L, TIME, -1, 4711L, (short) 7,
            new EndTransactionMarker(ControlRecordType.ABORT, 3)).buffer());
        ByteBuffer empty = ByteBuffer.allocate(61);
        DefaultRecordBatch.writeEmptyHeader(empty, (byte) 2, -1L, (short) -1, -1, 100L, 199L, -1,
            TimestampType.CREATE_TIME, -1L, false, false);
        empty.flip();
        save(folder, "empty", empty);
        save(folder, "message_set_v1", build(MemoryRecords.builder(ByteBuffer.allocate(4096), (byte) 1,
            Compression.NONE, TimestampType.CREATE_TIME, 0L),
            b -> b.append(TIME, utf8("key"), utf8("value"), NONE)));
    }

    static ByteBuffer plain(Consumer<MemoryRecordsBuilder> records) {
        return build(MemoryRecords.builder(ByteBuffer.allocate(4096), Compression.NONE,
            TimestampType.CREATE_TIME, 0L), records);
    }

    static ByteBuffer build(MemoryRecordsBuilder builder, Consumer<MemoryRecordsBuilder> records) {
        records.accept(builder);
        return builder.build().buffer();
    }

    static void save(Path folder, String name, ByteBuffer buffer) throws Exception {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        String hex = HexFormat.of().formatHex(bytes);
        Files.writeString(folder.resolve(name + ".hex"), hex.replaceAll("(.{96})(?=.)", "$1\n") + "\n");
    }

    static void read(Path file) throws Exception {
        byte[] bytes = HexFormat.of().parseHex(Files.readString(file).replaceAll("\\s", ""));
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            batch.ensureValid();
            System.out.println(batch);
            int count = 0;
            for (org.apache.kafka.common.record.Record record : batch) {
                record.ensureValid();
                System.out.println(record + " " + java.util.Arrays.toString(record.headers()));
                count++;
            }
            System.out.println(file.getFileName() + ": " + count + " records, " + batch.compressionType());
        }
    }
}
