// A stand-in for the Android runtime, with the checks of its `runSignature` and of its tensors.
// It computes nothing: what is compiled and run against it is the page docs/mobile.md.

import java.lang.reflect.Array as Arrays
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.io.File
import java.security.SecureRandom

class Slot(val type: String, val shape: IntArray)

class Tensor(private val slot: Slot) { fun shape(): IntArray = slot.shape }

// Signature to (inputs, outputs), as the test wrote them down from a real file.
val signatures = HashMap<String, Pair<HashMap<String, Slot>, HashMap<String, Slot>>>()

fun readSignatures(file: String) = File(file).forEachLine { line ->
    val (signature, side, name, type, shape) = line.split("\t")
    val sides = signatures.getOrPut(signature) { Pair(HashMap(), HashMap()) }
    val slot = Slot(type, shape.split(",").map { it.toInt() }.toIntArray())
    (if (side == "input") sides.first else sides.second)[name] = slot
}

fun shapeOf(value: Any): List<Int> {
    if (!value.javaClass.isArray) return emptyList()
    val length = Arrays.getLength(value)
    require(length > 0) { "Array lengths cannot be 0." }
    return listOf(length) + shapeOf(Arrays.get(value, 0) ?: 0)
}

fun typeOf(value: Any): String {
    var type: Class<*> = value.javaClass
    while (type.isArray) type = type.componentType
    return when {
        type == Float::class.javaPrimitiveType || value is FloatBuffer -> "float32"
        type == Int::class.javaPrimitiveType || value is IntBuffer -> "int32"
        else -> throw IllegalArgumentException("DataType error: cannot resolve $type")
    }
}

class Interpreter(model: ByteBuffer, options: Options) : AutoCloseable {
    class Options { fun setNumThreads(count: Int): Options = this }

    init { require(model.isDirect && model.order() == ByteOrder.nativeOrder()) }

    private fun sides(key: String) = requireNotNull(signatures[key]) { "no signature $key" }

    fun getInputTensorFromSignature(name: String, key: String) = Tensor(sides(key).first[name]!!)

    fun getOutputTensorFromSignature(name: String, key: String) = Tensor(sides(key).second[name]!!)

    fun runSignature(inputs: Map<String, Any>, outputs: Map<String, Any>, key: String) {
        require(inputs.isNotEmpty()) { "Input error: Inputs should not be null or empty." }
        val (entries, exits) = sides(key)
        require(inputs.keys == entries.keys) { "$key takes ${entries.keys}, got ${inputs.keys}" }
        inputs.forEach { (name, value) -> fits(name, entries[name]!!, value) }
        outputs.forEach { (name, value) ->
            fits(name, requireNotNull(exits[name]) { "$key has no output $name" }, value)
            if (name == "stepped" || name == "restored") (value as IntArray)[0] = 1
        }
    }

    private fun fits(name: String, slot: Slot, value: Any) {
        require(typeOf(value) == slot.type) { "$name is ${slot.type}, got ${typeOf(value)}" }
        if (value is Buffer) {
            require(value.capacity() == slot.shape.fold(1, Int::times)) { "$name: another size" }
        } else {
            require(shapeOf(value) == slot.shape.toList()) { "$name: another shape, ${shapeOf(value)}" }
        }
    }

    override fun close() {}
}

// Of org.json, as much as a header of three arrays needs.
class JSONArray(private val values: List<Int>) { fun getInt(index: Int) = values[index] }

class JSONObject(private val text: String) {
    fun getJSONObject(name: String) = JSONObject(text.substringAfter("\"$name\":{").substringBefore("}"))

    fun getJSONArray(name: String) = JSONArray(
        text.substringAfter("\"$name\":[").substringBefore("]").split(",").map { it.trim().toInt() }
    )
}

fun main(arguments: Array<String>) {
    readSignatures(arguments[0])
    val model = ByteBuffer.allocateDirect(16).order(ByteOrder.nativeOrder())
    Listening(model).use { it.reset(); it.heard(FloatArray(320)) }
    val file = readAdapter(File(arguments[1]).readBytes())
    Personal(model, file.base).use { phone ->
        val slots = signatures["train"]!!.first
        val clips = slots["labels"]!!.shape[0]
        val embeddings = FloatBuffer.allocate(slots["embeddings"]!!.shape.fold(1, Int::times))
        val labels = IntArray(clips)
        val present = FloatArray(clips) { 1f }
        phone.restore(file)
        val pcm = FloatArray(signatures["infer"]!!.first["waveform"]!!.shape[1])
        phone.infer(pcm)
        phone.inferWith(pcm, file.values)
        phone.embed(pcm, FloatBuffer.allocate(embeddings.capacity() / clips))
        phone.train(embeddings, labels, present, 0.1f)
        phone.trainPrivately(embeddings, labels, present, 0.1f, 1f, 1.0)
        val one = FloatBuffer.allocate(embeddings.capacity() / clips)
        phone.heard(FloatArray(320), one)
        phone.embedHop(FloatArray(320), one)
        phone.scoreWith(one, file.values)
        phone.reset()
        val place = File("adapter.kept")
        keep(phone.save(), place)
        phone.restore(kept(place))
        keep(file, place)
        val again = kept(place)
        check(again.values.contentEquals(file.values) && again.base.contentEquals(file.base))
        check(again.checksum.contentEquals(file.checksum))
    }
    println(file.values.joinToString(" ") { it.toRawBits().toString() })
    println(file.checksum.joinToString(" "))
}
