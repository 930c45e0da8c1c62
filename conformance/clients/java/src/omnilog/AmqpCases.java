package omnilog;

import static omnilog.Run.check;
import static omnilog.Run.equal;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** com.rabbitmq:amqp-client. */
final class AmqpCases {
    private AmqpCases() {}

    static void register(Map<String, Run.Case> cases) {
        cases.put("rabbitmq_java/confirm_consume_ack", AmqpCases::confirmConsumeAck);
        cases.put("rabbitmq_java/competing_consumers", AmqpCases::competing);
        cases.put("rabbitmq_java/errors", AmqpCases::errors);
        cases.put("rabbitmq_java/properties", AmqpCases::properties);
    }

    private static Connection connect(Run at) throws Exception {
        String[] address = at.options.get("--amqp").split(":");
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost(address[0]);
        factory.setPort(Integer.parseInt(address[1]));
        factory.setAutomaticRecoveryEnabled(false);
        return factory.newConnection();
    }

    private static void confirmConsumeAck(Run at) throws Exception {
        try (Connection connection = connect(at)) {
            Channel channel = connection.createChannel();
            String queue = at.name("q");
            channel.queueDeclare(queue, true, false, false, null);
            channel.exchangeDeclare(at.name("x"), "topic", true);
            channel.queueBind(queue, at.name("x"), "a.*");
            channel.confirmSelect();
            for (int i = 0; i < 300; i++) {
                channel.basicPublish(at.name("x"), "a." + i % 3, MessageProperties.PERSISTENT_TEXT_PLAIN,
                        Integer.toString(i).getBytes());
            }
            channel.waitForConfirmsOrDie(15_000);
            equal(channel.messageCount(queue), 300L, "message count");
            BlockingQueue<String> got = new LinkedBlockingQueue<>();
            Channel reader = connection.createChannel();
            reader.basicQos(10);
            reader.basicConsume(queue, false, (tag, message) -> {
                reader.basicAck(message.getEnvelope().getDeliveryTag(), false);
                got.add(new String(message.getBody()));
            }, tag -> { });
            for (int i = 0; i < 300; i++) {
                equal(got.poll(10, TimeUnit.SECONDS), Integer.toString(i), "message " + i);
            }
            reader.close();
            equal(channel.queueDelete(queue).getMessageCount(), 0, "messages left");
            channel.exchangeDelete(at.name("x"));
        }
    }

    private static void competing(Run at) throws Exception {
        try (Connection connection = connect(at)) {
            Channel channel = connection.createChannel();
            String queue = channel.queueDeclare(at.name("q"), false, false, true, null).getQueue();
            List<BlockingQueue<String>> got = List.of(new LinkedBlockingQueue<>(), new LinkedBlockingQueue<>());
            for (BlockingQueue<String> mine : got) {
                Channel reader = connection.createChannel();
                reader.basicQos(5);
                reader.basicConsume(queue, false, (tag, message) -> {
                    mine.add(new String(message.getBody()));
                    reader.basicAck(message.getEnvelope().getDeliveryTag(), false);
                }, tag -> { });
            }
            for (int i = 0; i < 200; i++) {
                channel.basicPublish("", queue, null, Integer.toString(i).getBytes());
            }
            long end = System.nanoTime() + 10_000_000_000L;
            while (got.get(0).size() + got.get(1).size() < 200) {
                check(System.nanoTime() < end, got.get(0).size() + " and " + got.get(1).size());
                Thread.sleep(10);
            }
            check(got.get(0).size() > 20 && got.get(1).size() > 20, "shares");
        }
    }

    private static void errors(Run at) throws Exception {
        try (Connection connection = connect(at)) {
            Channel channel = connection.createChannel();
            try {
                channel.queueDeclarePassive(at.name("missing"));
                throw new AssertionError("no error");
            } catch (IOException error) {
                ShutdownSignalException cause = (ShutdownSignalException) error.getCause();
                AMQP.Channel.Close close = (AMQP.Channel.Close) cause.getReason();
                equal(close.getReplyCode(), 404, "reply code");
                equal(close.getClassId() + "." + close.getMethodId(), "50.10", "the method that failed");
            }
            check(connection.isOpen(), "the connection stays");
            Channel reader = connection.createChannel();
            String queue = reader.queueDeclare(at.name("cancel"), false, false, false, null).getQueue();
            BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
            reader.basicConsume(queue, true, (tag, message) -> { }, cancelled::add);
            connection.createChannel().queueDelete(queue);
            check(cancelled.poll(10, TimeUnit.SECONDS) != null, "a deleted queue cancels its consumer");
        }
    }

    private static void properties(Run at) throws Exception {
        try (Connection connection = connect(at)) {
            Channel channel = connection.createChannel();
            String queue = channel.queueDeclare().getQueue();
            Map<String, Object> headers = Map.of("int", 5, "long", 1L << 40, "bool", true, "double", 2.5,
                    "table", Map.of("x", 1), "list", List.of(1, 2));
            AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder()
                    .contentType("a/b").headers(headers).priority(4).correlationId("c").build();
            channel.basicPublish("", queue, sent, new byte[300_000]);
            GetResponse got = null;
            for (int i = 0; i < 200 && got == null; i++) {
                got = channel.basicGet(queue, true);
                Thread.sleep(10);
            }
            check(got != null, "the message");
            equal(got.getProps().getHeaders(), headers, "headers");
            equal(got.getProps().getPriority(), 4, "priority");
            equal(got.getBody().length, 300_000, "body");
        }
    }
}
