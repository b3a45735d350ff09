// Adds two matrices that are part of the program: bespoke runtime run xla:cpu add.mlir
module @add {
  func.func @main() -> tensor<2x2xf32> {
    %x = stablehlo.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
    %y = stablehlo.constant dense<[[10.0, 20.0], [30.0, 40.0]]> : tensor<2x2xf32>
    %sum = stablehlo.add %x, %y : tensor<2x2xf32>
    return %sum : tensor<2x2xf32>
  }
}
