package omnilog;

import java.util.HashMap;
import java.util.Map;

/** Runs one case with the Java clients: Run CASE --kafka H:P --amqp H:P --prefix P --phase N. */
public final class Run {
    /** A case that throws if it didn't hold. */
    interface Case {
        void run(Run at) throws Exception;
    }

    final Map<String, String> options = new HashMap<>();

    String name(String suffix) {
        return options.get("--prefix") + "-" + suffix;
    }

    static void equal(Object actual, Object expected, String what) {
        if (!expected.equals(actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    public static void main(String[] args) {
        Run at = new Run();
        for (int i = 1; i + 1 < args.length; i += 2) {
            at.options.put(args[i], args[i + 1]);
        }
        Map<String, Case> cases = new HashMap<>();
        KafkaCases.register(cases);
        KafkaTransactions.register(cases);
        AmqpCases.register(cases);
        try {
            Case which = cases.get(args[0]);
            check(which != null, "no case " + args[0]);
            which.run(at);
        } catch (Throwable error) {
            error.printStackTrace();
            String text = (error.getClass().getSimpleName() + ": " + error.getMessage())
                    .replaceAll("[\\\\\"\\p{Cntrl}]", " ");
            System.out.println("{\"error\": \"" + text + "\"}");
            System.out.flush();
            Runtime.getRuntime().halt(1);
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
